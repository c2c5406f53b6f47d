"""Where users may be next: in the tiles around those that they have entered, or anywhere in a cell just loaded."""

from collections import deque
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.retrieval import snapped

_MOST = 512  # places, and cells, that are remembered; those around the tiles entered last stay
# The eight tiles around one, in tiles: those that share a side with it come first.
_AROUND = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)], np.float32)

_Floats = NDArray[np.float32]


class Expected(NamedTuple):
    """A place `centre` `[2]`, metres, where the frame of a version may be wanted next.

    `nearby`: users are in a tile next to it, or were when it was noted; otherwise the cell was loaded for them.
    """

    version: CellVersion
    centre: _Floats
    nearby: bool


class Surroundings:
    """Places where frames may be wanted next. One thread notes what users enter, another takes, any notes loaded cells.

    `pitch`: width of a tile in metres. 0: there are no tiles, and nothing is remembered.
    """

    def __init__(self, pitch: float) -> None:
        self._pitch = pitch
        # A weak reference: what is remembered must not keep an old version in memory.
        self._places: deque[tuple[ref[CellVersion], _Floats]] = deque(maxlen=_MOST)  # the most likely last
        self._entered_last: WeakKeyDictionary[CellVersion, _Floats] = WeakKeyDictionary()
        self._loaded: deque[tuple[ref[CellVersion], int]] = deque(maxlen=_MOST)  # the oldest first
        self._tiles: deque[tuple[ref[CellVersion], _Floats]] = deque()  # of the last one taken from these

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

    def note_loaded(self, version: CellVersion, most: int) -> None:
        """A cell has been loaded, and users may enter any of its tiles: `most` of them are taken at most."""
        if self._pitch and most:
            self._loaded.append((ref(version), most))

    def take(self) -> Expected | None:
        """The place that is likeliest to be wanted, among the fingerprints of its version; None where there is none.

        Places next to users come first. The tiles of loaded cells come by their distance from the tile that users
        entered last, before anybody is in the cell by how many fingerprints they hold.
        """
        while self._places:
            remembered, place = self._places.pop()
            version = remembered()
            if version is not None and self._is_among(version, place):
                return Expected(version, place, nearby=True)
        while self._tiles or self._loaded:
            if self._tiles:
                remembered, place = self._tiles.popleft()
                version = remembered()
                if version is not None:
                    return Expected(version, place, nearby=False)
            else:
                remembered, most = self._loaded.popleft()
                version = remembered()
                if version is not None:
                    self._tiles.extend((remembered, tile) for tile in self._list_tiles(version)[:most])
        return None

    def forget_loaded(self) -> None:
        """Offers no more tiles of cells that have been loaded. For the thread that takes."""
        self._loaded.clear()
        self._tiles.clear()

    def __bool__(self) -> bool:
        return bool(self._places or self._tiles or self._loaded)

    def _list_tiles(self, version: CellVersion) -> _Floats:
        """The centres `[t, 2]` of all tiles that hold fingerprints, those likeliest to be wanted first."""
        centres, counts = np.unique(snapped(version.positions, self._pitch), axis=0, return_counts=True)
        entered = self._entered_last.get(version)
        unlikely = -counts if entered is None else np.hypot(*(centres - entered).T)
        return centres[np.argsort(unlikely, kind="stable")]

    def _is_among(self, version: CellVersion, place: _Floats) -> bool:
        west, south, east, north = version.extent
        half = self._pitch / 2
        return bool(west - half <= place[0] <= east + half and south - half <= place[1] <= north + half)
