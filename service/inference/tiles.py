"""Tiles: first guesses snapped to a grid, so that users of one tile share a neighbourhood and its frame."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from reference_db.cell_version import CellVersion
from reference_db.degraded_csi import Degradation
from reference_db.retrieval import next_neighbourhood, snapped
from service.inference.channels import Channels

_RowsAndKey = tuple[NDArray[np.int64], bytes]

_MOST_REMEMBERED = 1 << 14  # tiles a version; one more clears the memory


class Neighbourhood(NamedTuple):
    """Fingerprints of a version, `rows` int64 `[n]`, and what describes their CSI.

    Equal keys mean equal fingerprints, degraded and described alike, across versions too.
    """

    version: CellVersion
    channel: ChannelTransform
    rows: NDArray[np.int64]
    key: bytes


class Tiles:
    """Remembers the neighbourhood of each tile for as long as its version lives. For one thread only."""

    def __init__(self, pitch: float, channels: Channels) -> None:
        self._pitch = pitch
        self._channels = channels
        # The values must not reference the version, or it would never be freed.
        self._remembered: WeakKeyDictionary[CellVersion, dict[bytes, _RowsAndKey]] = WeakKeyDictionary()

    def neighbourhoods(self, version: CellVersion, places: NDArray[np.float32], n: int) -> Sequence[Neighbourhood]:
        """Returns, for each of `places` `[b, 2]` (metres), the n fingerprints nearest the centre of its tile."""
        centres, channel = snapped(places, self._pitch), self._channels.of(version)
        if not self._pitch:
            return [Neighbourhood(version, channel, *found) for found in _fetch(version, channel, centres, n)]
        known = self._remembered.setdefault(version, {})
        tiles = [centre.tobytes() for centre in centres]
        missing = {tile: centre for tile, centre in zip(tiles, centres, strict=True) if tile not in known}
        if missing:
            if len(known) + len(missing) > _MOST_REMEMBERED:
                missing = dict(zip(tiles, centres, strict=True))
                known.clear()
            fetched = _fetch(version, channel, np.stack(list(missing.values())), n)
            known.update(zip(missing, fetched, strict=True))
        return [Neighbourhood(version, channel, *known[tile]) for tile in tiles]

    def centres(self, version: CellVersion) -> dict[bytes, NDArray[np.float32]]:
        """Returns the centre `[2]` (metres) of each remembered tile, by the key of its neighbourhood."""
        remembered = self._remembered.get(version, {})
        return {key: np.frombuffer(tile, np.float32) for tile, (_, key) in remembered.items()}


def _fetch(version: CellVersion, channel: ChannelTransform, centres: NDArray[np.float32], n: int) -> list[_RowsAndKey]:
    neighbourhoods = next_neighbourhood(version.references, centres, n)
    description = name_description(version, channel)
    return [(rows, _key(description, version.ids[rows])) for rows in neighbourhoods]


def name_description(version: CellVersion, channel: ChannelTransform) -> bytes:
    """Equal for versions of a cell whose CSI is degraded and described alike."""
    degradation = repr(Degradation.of(version.cell)).encode()
    return hashlib.sha256(b"\0".join([version.cell.cell_id.encode(), degradation, channel.key])).digest()


def _key(description: bytes, ids: NDArray[np.uint64]) -> bytes:
    # Sorted: the model's answer does not depend on the order of the neighbourhood.
    return hashlib.blake2b(np.sort(ids).tobytes(), digest_size=16, key=description).digest()
