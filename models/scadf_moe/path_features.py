"""The four numbers that go with a snapshot in SCADF-MoE, from the paths themselves and as a base station measures them.

Columns: azimuth of departure and of arrival of the strongest path (radians, scene axes), its length (metres), and the
large-scale gain, which is the sum of all paths' powers (linear). `reference_db.path_features` makes the same four out
of a snapshot alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.radio.path_table import PathTable
from reference_db.path_features import SPEED_OF_LIGHT

ANGLE_SIGMA = math.radians(2.0)
DISTANCE_SIGMA = 1.0  # metres
GAIN_SIGMA_DB = 1.0


def path_cues(table: PathTable) -> NDArray[np.float64]:
    """Exact, float64 [users, 4]; zeros for a user that no path reaches.

    In line of sight they all but give the position away: it lies at that distance in that direction.
    """
    power = np.abs(table.gain.astype(np.complex128)) ** 2
    user = np.repeat(np.arange(len(table.users)), table.paths_per_user)
    cues = np.zeros((len(table.users), 4))
    weakest_first = np.lexsort([power, user])
    strongest = weakest_first[table.offsets[1:][table.reached] - 1]  # the last row of each user
    cues[table.reached] = np.column_stack(
        [
            table.departure[strongest, 1],
            table.arrival[strongest, 1],
            table.delay[strongest] * SPEED_OF_LIGHT,
            np.bincount(user, power, minlength=len(table.users))[table.reached],
        ]
    )
    return cues


def measured(cues: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Cues [..., 4] with the normal errors (1 sigma) of a base station: 2 degrees, 1 metre and 1 decibel."""
    noise = rng.standard_normal(cues.shape)
    angles, distance, gain = np.split(cues, [2, 3], axis=-1)
    return np.concatenate(
        [
            angles + ANGLE_SIGMA * noise[..., :2],
            np.maximum(distance + DISTANCE_SIGMA * noise[..., 2:3], 0.0),
            gain * 10 ** (GAIN_SIGMA_DB * noise[..., 3:] / 10),
        ],
        axis=-1,
    )
