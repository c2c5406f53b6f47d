"""The last snapshots of each track. The service keeps them for seconds and never logs them."""

import asyncio
import struct
import time
from collections import OrderedDict, deque
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from reference_db.half_csi import as_complex, pack_csi, unpack_csi

_HEAD = struct.Struct("<dfHH")


class TrackSnapshot(NamedTuple):
    """CSI packed by `pack_csi`, float16 `[antennas, subcarriers, 2]`, and its time of measurement in Unix seconds."""

    csi: NDArray[np.float16]
    scale: float
    time: float

    @classmethod
    def of(cls, csi: NDArray[np.float32], time: float) -> Self:
        """`csi` float32 `[antennas, subcarriers, 2]`, finite and not all zero."""
        packed, scale = pack_csi(as_complex(csi)[np.newaxis])
        return cls(packed[0], float(scale[0]), time)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `ValueError` for other data."""
        try:
            time, scale, antennas, subcarriers = _HEAD.unpack_from(data)
        except struct.error as error:
            raise ValueError(str(error)) from error
        csi = np.frombuffer(data, "<f2", offset=_HEAD.size).astype(np.float16, copy=False)
        return cls(csi.reshape(antennas, subcarriers, 2), scale, time)

    def to_bytes(self) -> bytes:
        antennas, subcarriers, _ = self.csi.shape
        return _HEAD.pack(self.time, self.scale, antennas, subcarriers) + self.csi.astype("<f2").tobytes()

    def pairs(self) -> NDArray[np.float32]:
        """Real-imaginary pairs float32 `[antennas, subcarriers, 2]`."""
        return unpack_csi(self.csi, np.array(self.scale, np.float32))


class Tracks(Protocol):
    async def append(self, cell_id: str, track_id: str, snapshot: TrackSnapshot) -> list[TrackSnapshot]:
        """Adds a snapshot to a track of a cell. Returns the kept snapshots of the track, the new one last.

        Raises `TracksUnavailable`.
        """

    def close(self) -> None:
        """Drops the connection, and the tracks that only this process holds."""


class MemoryTracks:
    """Tracks of this process: `limit` tracks of `length` snapshots, each dropped `ttl_s` after its last snapshot.

    The least recently used tracks make room. For the event loop's thread.
    """

    def __init__(self, length: int, ttl_s: float, limit: int) -> None:
        self._length = length
        self._ttl = ttl_s
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], tuple[float, deque[TrackSnapshot]]] = OrderedDict()  # oldest first
        self._sweep: asyncio.TimerHandle | None = None

    async def append(self, cell_id: str, track_id: str, snapshot: TrackSnapshot) -> list[TrackSnapshot]:
        now = time.monotonic()
        self._forget(now)
        _, track = self._held.pop((cell_id, track_id), (now, deque(maxlen=self._length)))
        track.append(snapshot)
        self._held[cell_id, track_id] = now, track
        if len(self._held) > self._limit:
            self._held.popitem(last=False)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._ttl, self._sweep_up)
        return list(track)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._held.clear()

    def __len__(self) -> int:
        return len(self._held)

    def _forget(self, now: float) -> None:
        while self._held and next(iter(self._held.values()))[0] <= now - self._ttl:
            self._held.popitem(last=False)

    def _sweep_up(self) -> None:
        """Drops expired tracks when no request arrives either: positions of people are personal."""
        self._forget(time.monotonic())
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self._ttl, self._sweep_up) if self._held else None
