"""Where users may be next: the tiles around those that they have entered."""

from collections import deque
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion

_MOST = 512  # places that are remembered; those around the tiles entered last stay
# The eight tiles around one, in tiles: those that share a side with it come first.
_AROUND = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)], np.float32)

_Floats = NDArray[np.float32]


class Surroundings:
    """Places where frames may be wanted next. One thread notes, another takes.

    `pitch`: width of a tile in metres. 0: there are no tiles, and nothing is remembered.
    """

    def __init__(self, pitch: float) -> None:
        self._pitch = pitch
        # A weak reference: what is remembered must not keep an old version in memory.
        self._places: deque[tuple[ref[CellVersion], _Floats]] = deque(maxlen=_MOST)  # the most likely last
        self._entered_last: WeakKeyDictionary[CellVersion, _Floats] = WeakKeyDictionary()

    def note(self, version: CellVersion, centre: _Floats) -> None:
        """A user has entered the tile around `centre` `[2]`, metres, in which nobody was for a while.

        Where the tile entered before is next to it, the user seems to go on in the same direction.
        """
        if not self._pitch:
            return
        heading = centre - self._entered_last.get(version, centre)
        self._entered_last[version] = centre
        ahead = np.zeros(len(_AROUND), np.float32)
        if np.abs(heading).max() < 1.5 * self._pitch:
            ahead = _AROUND @ heading / np.hypot(*_AROUND.T)
        for tile in reversed(np.argsort(-ahead, kind="stable")):
            self._places.append((ref(version), centre + np.float32(self._pitch) * _AROUND[tile]))

    def take(self) -> tuple[CellVersion, _Floats] | None:
        """The place that is likeliest to be wanted, among the fingerprints of its version; None where there is none."""
        while self._places:
            remembered, place = self._places.pop()
            version = remembered()
            if version is not None and self._is_among(version, place):
                return version, place
        return None

    def __bool__(self) -> bool:
        return bool(self._places)

    def _is_among(self, version: CellVersion, place: _Floats) -> bool:
        west, south, east, north = version.extent
        half = self._pitch / 2
        return bool(west - half <= place[0] <= east + half and south - half <= place[1] <= north + half)
