"""Which fingerprints lie near a place."""

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints

# In large batches, and with several threads over large indexes, FAISS expands |x - y|^2 into
# |x|^2 + |y|^2 - 2xy, which cancels and loses decimetres; never in a search that selects, be it everything.
_EXACTLY = faiss.SearchParameters(sel=faiss.IDSelectorAll())  # type: ignore[call-arg]  # missing in its stubs


class PositionIndex:
    """An exact nearest-neighbour index over positions: FAISS `IndexFlatL2`, immutable, safe to share.

    `positions` is float32 `[n, 2]` in metres. Distances are right to below a millimetre wherever the origin
    lies, and an answer does not depend on which other centres are asked for in the same call.
    """

    def __init__(self, positions: NDArray[np.float32]) -> None:
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ValueError(f"positions have shape {list(positions.shape)}, not [n, 2]")
        # Around their own mean the positions are small, and float32 resolves them finely.
        self._origin = positions.mean(axis=0, dtype=np.float64) if len(positions) else np.zeros(2)
        self._index = faiss.IndexFlatL2(2)
        self._held = self._around_origin(positions)
        self._index.add(self._held)

    def __len__(self) -> int:
        return int(self._index.ntotal)

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
        squared, indices = self._index.search(self._around_origin(centres), n, params=_EXACTLY)
        return indices, np.sqrt(squared)

    def within(self, centre: NDArray[np.float32], radius: float) -> NDArray[np.int64]:
        """The indices of all positions at most `radius` metres from `centre` `[2]`, rising."""
        # Not FAISS's own search by range, whose radius is squared and exclusive.
        away = np.square(self._held - self._around_origin(centre)).sum(axis=1)
        return np.flatnonzero(away <= np.float32(radius) ** 2)

    def _around_origin(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(positions - self._origin, dtype=np.float32)
