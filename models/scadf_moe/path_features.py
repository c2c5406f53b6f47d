"""The path features of a snapshot: exact ones from its paths, and the same with a base station's errors.

The four columns are AoD and AoA (azimuths of the strongest path in radians, scene axes), range (its length in metres)
and large-scale gain (the sum of all path powers, linear). `reference_db.path_features` estimates the same four from a
snapshot alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.radio.path_table import PathTable
from reference_db.path_features import SPEED_OF_LIGHT

ANGLE_SIGMA = math.radians(2.0)
RANGE_SIGMA = 1.0  # metres
GAIN_SIGMA_DB = 1.0


def exact_path_features(table: PathTable) -> NDArray[np.float64]:
    """float64 [users, 4]; zeros for a user that no path reaches.

    In line of sight they nearly determine the position: it lies at that range in that direction.
    """
    power = np.abs(table.gain.astype(np.complex128)) ** 2
    user = np.repeat(np.arange(len(table.users)), table.paths_per_user)
    features = np.zeros((len(table.users), 4))
    weakest_first = np.lexsort([power, user])
    strongest = weakest_first[table.offsets[1:][table.reached] - 1]  # the last row of each user
    features[table.reached] = np.column_stack(
        [
            table.departure[strongest, 1],
            table.arrival[strongest, 1],
            table.delay[strongest] * SPEED_OF_LIGHT,
            np.bincount(user, power, minlength=len(table.users))[table.reached],
        ]
    )
    return features


def add_measurement_errors(features: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Path features [..., 4] with normal errors of a base station (1 sigma): 2 degrees, 1 metre and 1 decibel."""
    noise = rng.standard_normal(features.shape)
    angles, distance, gain = np.split(features, [2, 3], axis=-1)
    return np.concatenate(
        [
            angles + ANGLE_SIGMA * noise[..., :2],
            np.maximum(distance + RANGE_SIGMA * noise[..., 2:3], 0.0),
            gain * 10 ** (GAIN_SIGMA_DB * noise[..., 3:] / 10),
        ],
        axis=-1,
    )
