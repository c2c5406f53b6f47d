"""How far a cell's arrival times can be trusted, asked of its own fingerprints."""

import numpy as np
from numpy.typing import NDArray

from reference_db.index.signal import SHARPNESS
from reference_db.index.signal_features import Features

TRUSTS = (0.05, 0.1, 0.2, 0.5, 1.0)

_USERS = 256
_REFERENCES = 4096


def measure_timing_trust(features: Features, positions: NDArray[np.float32]) -> float:
    """The one of `TRUSTS` with which fingerprints, each left out in its turn, are best located by their signal.

    Radios with one clock make delays the best witness there is, radios without make them a false one; the
    fingerprints were measured by the radios that are to be located. `features` `[n, D]` as `signal_feature` makes
    them, `positions` float32 `[n, 2]`. A sample of both is compared; the answer depends on nothing else.
    """
    n = len(features)
    rng = np.random.default_rng(0)
    rows = rng.permutation(n)[:_REFERENCES]
    users = rows[:_USERS]
    if len(rows) < 2:
        return TRUSTS[0]
    halves = np.split(features[rows], 2, axis=1)
    own = np.arange(len(users))
    blind, timed = (np.maximum(2 - 2 * (half[own] @ half.T), 0) for half in halves)  # [users, rows], squared distances
    errors = []
    for trust in TRUSTS:
        squared = np.maximum((1 - trust) * blind + trust * timed, 1e-8)
        squared[own, own] = np.inf
        weights = (squared.min(axis=1, keepdims=True) / squared) ** (SHARPNESS / 2)
        found = weights @ positions[rows] / weights.sum(axis=1, keepdims=True)
        errors.append(float(np.linalg.norm(found - positions[users], axis=1).mean()))
    return TRUSTS[int(np.argmin(errors))]
