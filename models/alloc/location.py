"""The users of a trial as they ask, and the estimates of the rivals that learn nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.alloc.experiment import Condition
from models.alloc.streets import Survey
from models.alloc.tasks import Users
from reference_db import first_guess, signal_feature
from reference_db.knn import csi_distances_by_feature, knn_baselines

NO_FIX = np.float32(np.inf)  # accuracy

_Floats = NDArray[np.float32]


def draw_users(survey: Survey, condition: Condition, seed: int) -> Users:
    """The users of a street as they ask: with noise and coarse positions that are the same for every method."""
    rng = np.random.default_rng([seed, *survey.street.name.encode()])
    located = survey.street.users
    noise = rng.normal(1.0, condition.noise, located.csi.shape).astype(np.float32)
    csi = located.csi * noise if condition.noise else located.csi
    if condition.fix is None:
        unknown = np.full((len(csi), 2), np.nan, np.float32)
        without = np.full(len(csi), NO_FIX)
        guess = first_guess(survey.references, signal_feature(csi), unknown, without)
        return Users(csi, guess, float(NO_FIX))
    coarse = located.positions + rng.uniform(-condition.fix, condition.fix, (len(csi), 2)).astype(np.float32)
    return Users(csi, coarse.astype(np.float32), condition.fix / np.sqrt(3))


def locate_by_knn(survey: Survey, users: Users, neighbours: int) -> _Floats:
    """Every variant of weighted kNN, [variants, u, 2]."""
    coarse = users.coarse if np.isfinite(users.accuracy) else None
    distances = csi_distances_by_feature(users.csi, survey.csi)
    found = knn_baselines(distances, survey.positions, coarse, users.accuracy, max(neighbours, 16))
    return np.stack(list(found.values()))
