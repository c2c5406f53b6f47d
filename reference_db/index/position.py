"""Finds the fingerprints that lie near a position."""

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.index.position_boxes import PositionBoxes

# Up to this size FAISS compares all positions faster than boxes are selected.
_FLAT = 4096

# For large batches, and with several threads on large indices, FAISS expands |x - y|^2 into |x|^2 + |y|^2 - 2xy. Far
# from the origin that loses decimetres to cancellation. With a selector, here one that selects everything, FAISS
# subtracts x and y pair by pair.
_PAIR_BY_PAIR = faiss.SearchParameters(sel=faiss.IDSelectorAll())  # type: ignore[call-arg]  # missing in its stubs

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class PositionIndex:
    """An exact nearest-neighbour index over positions: FAISS `IndexFlatL2`, for large cells `PositionBoxes`.

    `positions` is float32 `[n, 2]` in metres. Coordinates are subtracted first and squared then, all in float32, so a
    distance has a relative error of at most 3 · 2^-24, however far away the origin is. A result does not depend on the
    other centres of its call. Immutable; threads may share it.

    Raises `ValueError` for positions of another shape.
    """

    def __init__(self, positions: _Floats) -> None:
        self.positions = _checked(positions)
        self._parts: tuple[_Part, ...] = (_Part(0, len(positions), _places(positions)),)

    def extended(self, positions: _Floats) -> "PositionIndex":
        """An index that also holds k more positions `[k, 2]`, as rows n to n + k - 1. It shares the boxes of this one.

        The index has at most three parts: the boxes it was built with, boxes of later positions, and a flat tail. The
        tail becomes boxes when it has grown large enough. Raises `ValueError` for positions of another shape.
        """
        longer = copy(self)
        longer.positions = np.concatenate([self.positions, _checked(positions)])
        longer.positions.flags.writeable = False
        boxed = [part for part in self._parts if isinstance(part.places, PositionBoxes)]
        if len(longer) - _end(boxed) > _FLAT:
            del boxed[1:]
        first = _end(boxed)
        if first < len(longer) or not boxed:
            boxed.append(_Part(first, len(longer), _places(longer.positions[first:])))
        longer._parts = tuple(boxed)
        return longer

    def __len__(self) -> int:
        return len(self.positions)

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
        """The n positions nearest to each centre `[b, 2]`: indices int64 and distances float32, `[b, n]`.

        Nearest first, distances in metres. Raises `TooFewFingerprints` if n exceeds the size of the index, and
        `ValueError` for centres that are not finite pairs or an n below 1.
        """
        if centres.ndim != 2 or centres.shape[1] != 2 or not np.isfinite(centres).all():
            raise ValueError("centres must be finite and of shape [b, 2]")
        if n < 1:
            raise ValueError(f"n is {n}, must be at least 1")
        if n > len(self):
            raise TooFewFingerprints(wanted=n, available=len(self))
        found = [part.nearest(centres, n) for part in self._parts]
        if len(found) == 1:
            indices, squared = found[0]
        else:
            indices, squared = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
            order = squared.argsort(axis=1, kind="stable")[:, :n]
            indices, squared = np.take_along_axis(indices, order, axis=1), np.take_along_axis(squared, order, axis=1)
        return indices, np.sqrt(squared)

    def within(self, centre: _Floats, radius: float, most: int | None = None) -> _Rows:
        """The indices of all positions at most `radius` metres from `centre` `[2]`, ascending.

        With `most`, at most so many of them: an even sample if there are more.
        """
        found = [part.within(centre, radius, most) for part in self._parts]
        if most is None or len(found) == 1:
            return np.concatenate([rows for rows, _ in found])
        one_of_all = max(sum(len(rows) * one_of for rows, one_of in found) / most, *(one_of for _, one_of in found))
        return np.concatenate([_some(rows, int(len(rows) * one_of / one_of_all)) for rows, one_of in found])

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory in use, including those shared with the index that this one was extended from."""
        return self.positions.nbytes + sum(part.places.resident_bytes for part in self._parts)


class _Part(NamedTuple):
    """The rows from `first` up to, but not including, `end`."""

    first: int
    end: int
    places: "_Flat | PositionBoxes"

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
        indices, squared = self.places.nearest(centres, min(n, self.end - self.first))
        return indices + self.first, squared

    def within(self, centre: _Floats, radius: float, most: int | None) -> tuple[_Rows, int]:
        indices, one_of = self.places.within(centre, radius, most)
        return indices + self.first, one_of


def _some(rows: _Rows, count: int) -> _Rows:
    return rows[np.arange(count) * len(rows) // max(1, count)]


def _end(parts: Sequence[_Part]) -> int:
    return parts[-1].end if parts else 0


def _places(positions: _Floats) -> "_Flat | PositionBoxes":
    return _Flat(positions) if len(positions) <= _FLAT else PositionBoxes(positions)


def _checked(positions: _Floats) -> _Floats:
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError(f"positions have shape {list(positions.shape)}, not [n, 2]")
    return positions


class _Flat:
    """Few positions, all of them compared with every centre: FAISS `IndexFlatL2`."""

    def __init__(self, positions: _Floats) -> None:
        self._index = faiss.IndexFlatL2(2)
        self._index.add(np.ascontiguousarray(positions, np.float32))
        self._held: _Floats = faiss.rev_swig_ptr(self._index.get_xb(), positions.size).reshape(-1, 2)

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
        squared, indices = self._index.search(np.ascontiguousarray(centres, np.float32), n, params=_PAIR_BY_PAIR)
        return indices, squared

    def within(self, centre: _Floats, radius: float, most: int | None) -> tuple[_Rows, int]:
        # FAISS's own range search takes a squared radius and excludes it.
        squared = np.square(self._held - centre)
        found = np.flatnonzero(squared[:, 0] + squared[:, 1] <= np.float32(radius) ** 2)
        one_of = 1 if most is None else -(-len(found) // most) or 1
        return found[::one_of], one_of

    @property
    def resident_bytes(self) -> int:
        return self._held.nbytes
