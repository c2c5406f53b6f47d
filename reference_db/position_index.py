"""Which fingerprints lie near a place."""

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.position_boxes import PositionBoxes

# Up to so many positions FAISS looks at all of them sooner than boxes are chosen.
_FLAT = 4096

# In large batches, and with several threads over large indexes, FAISS expands |x - y|^2 into
# |x|^2 + |y|^2 - 2xy, which cancels and loses decimetres; never in a search that selects, be it everything.
_EXACTLY = faiss.SearchParameters(sel=faiss.IDSelectorAll())  # type: ignore[call-arg]  # missing in its stubs

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class PositionIndex:
    """An exact nearest-neighbour index over positions: FAISS `IndexFlatL2`, for large cells `PositionBoxes`.

    `positions` is float32 `[n, 2]` in metres. Distances are right to below a millimetre, or to what float32 resolves
    at them, wherever the origin lies, and an answer does not depend on which other centres are asked for in the same
    call. Immutable, safe to share.
    """

    def __init__(self, positions: _Floats) -> None:
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ValueError(f"positions have shape {list(positions.shape)}, not [n, 2]")
        self._places = _Flat(positions) if len(positions) <= _FLAT else PositionBoxes(positions)
        self._size = len(positions)

    def __len__(self) -> int:
        return self._size

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
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
        indices, squared = self._places.nearest(centres, n)
        return indices, np.sqrt(squared)

    def within(self, centre: _Floats, radius: float, most: int | None = None) -> _Rows:
        """The indices of all positions at most `radius` metres from `centre` `[2]`, rising.

        Given `most`, no more than these: of many more, an even choice.
        """
        return self._places.within(centre, radius, most)


class _Flat:
    def __init__(self, positions: _Floats) -> None:
        # Around their own mean the positions are small, and float32 resolves them finely.
        self._origin = positions.mean(axis=0, dtype=np.float64) if len(positions) else np.zeros(2)
        self._index = faiss.IndexFlatL2(2)
        self._index.add(self._around_origin(positions))
        self._held: _Floats = faiss.rev_swig_ptr(self._index.get_xb(), positions.size).reshape(-1, 2)

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
        squared, indices = self._index.search(self._around_origin(centres), n, params=_EXACTLY)
        return indices, squared

    def within(self, centre: _Floats, radius: float, most: int | None) -> _Rows:
        # Not FAISS's own search by range, whose radius is squared and exclusive.
        away = np.square(self._held - self._around_origin(centre)).sum(axis=1)
        found = np.flatnonzero(away <= np.float32(radius) ** 2)
        return found if most is None else found[:: -(-len(found) // most) or 1]

    def _around_origin(self, positions: _Floats) -> _Floats:
        return np.ascontiguousarray(positions - self._origin, dtype=np.float32)
