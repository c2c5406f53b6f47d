"""Which fingerprints lie near a place."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from reference_db.errors import TooFewFingerprints


class PositionIndex:
    """An exact tree over positions: immutable, safe to share, and hardly slower for a million than for a thousand.

    `positions` is float32 `[n, 2]` in metres. An answer does not depend on what else is asked in the same call.
    """

    def __init__(self, positions: NDArray[np.float32]) -> None:
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ValueError(f"positions have shape {list(positions.shape)}, not [n, 2]")
        self._tree = cKDTree(positions)

    def __len__(self) -> int:
        return int(self._tree.n)

    def nearest(self, centres: NDArray[np.float32], n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The n positions nearest to each centre `[b, 2]`: indices int64 and distances float32, `[b, n]`.

        Nearest first, distances in metres. Raises `TooFewFingerprints` when n exceeds the index's size and
        `ValueError` for centres that are not finite pairs or an n below 1.
        """
        if centres.ndim != 2 or centres.shape[1] != 2 or not np.isfinite(centres).all():
            raise ValueError("centres must be finite and of shape [b, 2]")
        if n < 1:
            raise ValueError(f"n is {n}, must be at least 1")
        if n > len(self):
            raise TooFewFingerprints(wanted=n, available=len(self))
        distances, indices = self._tree.query(centres, n)
        shape = len(centres), n
        return indices.reshape(shape).astype(np.int64, copy=False), distances.reshape(shape).astype(np.float32)

    def within(self, centre: NDArray[np.float32], radius: float) -> NDArray[np.int64]:
        """The indices of all positions at most `radius` metres from `centre` `[2]`, rising."""
        return np.sort(np.array(self._tree.query_ball_point(centre, radius), np.int64))
