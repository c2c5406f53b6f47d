"""Places snapped to a grid: users of one tile are compared with the same fingerprints, and so share a frame."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.retrieval import next_neighbourhood, snapped

_Named = tuple[NDArray[np.int64], bytes]  # rows and key

_MOST_REMEMBERED = 1 << 14  # tiles a version; beyond them all are looked up again


class Neighbourhood(NamedTuple):
    """Fingerprints of a version, `rows` int64 `[n]`; equal `key` in whatever version means equal fingerprints."""

    version: CellVersion
    rows: NDArray[np.int64]
    key: bytes

    @property
    def csi(self) -> NDArray[np.float32]:
        """Real pairs `[n, antennas, subcarriers, 2]`."""
        return self.version.csi_of(self.rows)

    @property
    def positions(self) -> NDArray[np.float32]:
        """`[n, 2]` metres."""
        return self.version.positions[self.rows]


class Tiles:
    """The neighbourhood of each tile, remembered as long as its version lives. For one thread only."""

    def __init__(self, pitch: float) -> None:
        self._pitch = pitch
        # Rows and key of each tile; the values must not keep the version alive.
        self._remembered: WeakKeyDictionary[CellVersion, dict[bytes, _Named]] = WeakKeyDictionary()

    def neighbourhoods(self, version: CellVersion, places: NDArray[np.float32], n: int) -> Sequence[Neighbourhood]:
        """Of the n fingerprints nearest to the tile's centre, for each of places `[b, 2]` in metres."""
        centres = snapped(places, self._pitch)
        if not self._pitch:
            return [Neighbourhood(version, *one) for one in _fetched(version, centres, n)]
        known = self._remembered.setdefault(version, {})
        tiles = [centre.tobytes() for centre in centres]
        missing = {tile: centre for tile, centre in zip(tiles, centres, strict=True) if tile not in known}
        if missing:
            if len(known) + len(missing) > _MOST_REMEMBERED:
                missing = dict(zip(tiles, centres, strict=True))
                known.clear()
            fetched = _fetched(version, np.stack(list(missing.values())), n)
            known.update(zip(missing, fetched, strict=True))
        return [Neighbourhood(version, *known[tile]) for tile in tiles]

    def known(self, version: CellVersion) -> dict[bytes, NDArray[np.float32]]:
        """The centre `[2]` of a tile asked for so far, by the key of its neighbourhood."""
        remembered = self._remembered.get(version, {})
        return {key: np.frombuffer(tile, np.float32) for tile, (_, key) in remembered.items()}


def _fetched(version: CellVersion, centres: NDArray[np.float32], n: int) -> list[_Named]:
    rows = next_neighbourhood(version.references, centres, n)
    cell = version.cell.cell_id.encode()
    return [(some, _key(cell, version.ids[some])) for some in rows]


def _key(cell: bytes, ids: NDArray[np.uint64]) -> bytes:
    # The network does not care for the order of a neighbourhood, and nor does its name.
    return hashlib.blake2b(np.sort(ids).tobytes(), digest_size=16, key=hashlib.sha256(cell).digest()).digest()
