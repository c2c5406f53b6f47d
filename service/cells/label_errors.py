"""How far from their labels a cell's own fingerprints are located, as users without a coarse position would be."""

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.inference.estimator import Estimator

AT_ONCE = 8  # fingerprints: users must not wait long for the network meanwhile


def label_errors(
    estimator: Estimator, references: CellVersion, version: CellVersion, rows: NDArray[np.int64], *, left_out: bool
) -> NDArray[np.float64]:
    """Metres, float64 `[n]`, of the fingerprints `rows` int64 `[n]` of a version, compared with those of `references`.

    With `left_out`, where both are the same version, each without itself. NaN where the network knows no answer.
    Blocks; aside. Raises `InferenceFailed`.
    """
    found = np.empty((len(rows), 2), np.float32)
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        nowhere = np.full((len(some), 2), np.nan, np.float32)
        users = (version.csi_of(some), nowhere, nowhere[:, 0])
        found[first : first + AT_ONCE] = estimator.positions(references, *users, some if left_out else None)
    errors: NDArray[np.float64] = np.linalg.norm(found.astype(np.float64) - version.positions[rows], axis=1)
    return errors
