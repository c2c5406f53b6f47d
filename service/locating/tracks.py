"""The last snapshots of each track. The service keeps them for seconds and never logs them.

A track has two kinds of them, which are kept apart: its CSI, for a model that reads all snapshots at once, and what a
model found out about each snapshot alone (`service.locating.located_snapshots`).
"""

import asyncio
import struct
import time
from collections import OrderedDict, defaultdict
from datetime import datetime
from hashlib import blake2b
from typing import Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reference_db.half_csi import as_complex, pack_csi, unpack_csi

DIGEST_BYTES = 16
_NO_REQUEST = bytes(DIGEST_BYTES)
_HEAD = struct.Struct(f"<{DIGEST_BYTES}s{DIGEST_BYTES}sdfHH")


Kind = Literal["csi", "located"]  # what is kept of snapshots


class TrackName(NamedTuple):
    """A track of one cell. `owner` is the public id of the API key that sends its snapshots, empty without keys."""

    cell_id: str
    owner: str
    track_id: str


class SnapshotNames(NamedTuple):
    """Tells whether two snapshots are one: `request` is the digest of its requestId, zeros where it has none;
    `measurement` that of its CSI and timestamp.
    """

    request: bytes
    measurement: bytes

    @classmethod
    def of(cls, csi: NDArray[np.float32], timestamp: datetime | None, request_id: str | None) -> Self:
        when = "" if timestamp is None else str(timestamp.timestamp())
        request = _NO_REQUEST if request_id is None else digest(request_id.encode())
        return cls(request, digest(when.encode(), csi.tobytes()))

    def repeats(self, other: "SnapshotNames") -> bool:
        """Whether both are one snapshot that was sent twice: the same requestId, or the same CSI and timestamp."""
        return self.request == other.request != _NO_REQUEST or self.measurement == other.measurement


class Kept(Protocol):
    """What is kept of a snapshot."""

    @property
    def names(self) -> SnapshotNames: ...
    def to_bytes(self) -> bytes:
        """Begins with the bytes of both names, which Redis compares."""


K = TypeVar("K", bound=Kept)


class TrackSnapshot(NamedTuple):
    """CSI packed by `pack_csi`, float16 `[antennas, subcarriers, 2]`, and its time of measurement in Unix seconds."""

    csi: NDArray[np.float16]
    scale: float
    time: float
    names: SnapshotNames

    @classmethod
    def of(
        cls, csi: NDArray[np.float32], received: float, timestamp: datetime | None = None, request_id: str | None = None
    ) -> Self:
        """`csi` float32 `[antennas, subcarriers, 2]`, finite and not all zero. `received`, in Unix seconds, is the
        time of measurement where there is no timestamp.
        """
        packed, scale = pack_csi(as_complex(csi)[np.newaxis])
        measured = received if timestamp is None else timestamp.timestamp()
        return cls(packed[0], float(scale[0]), measured, SnapshotNames.of(csi, timestamp, request_id))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `ValueError` for other data."""
        try:
            request, measurement, time, scale, antennas, subcarriers = _HEAD.unpack_from(data)
        except struct.error as error:
            raise ValueError(str(error)) from error
        csi = np.frombuffer(data, "<f2", offset=_HEAD.size).astype(np.float16, copy=False)
        return cls(csi.reshape(antennas, subcarriers, 2), scale, time, SnapshotNames(request, measurement))

    def to_bytes(self) -> bytes:
        antennas, subcarriers, _ = self.csi.shape
        head = _HEAD.pack(*self.names, self.time, self.scale, antennas, subcarriers)
        return head + self.csi.astype("<f2").tobytes()

    def pairs(self) -> NDArray[np.float32]:
        """Real-imaginary pairs float32 `[antennas, subcarriers, 2]`."""
        return unpack_csi(self.csi, np.array(self.scale, np.float32))


def digest(*parts: bytes) -> bytes:
    """Keeps names out of the store."""
    hashed = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        hashed.update(len(part).to_bytes(8) + part)
    return hashed.digest()


class Tracks(Protocol[K]):
    """Tracks with one kind of snapshots."""

    async def append(self, name: TrackName, snapshot: K) -> list[K]:
        """Adds a snapshot to a track. Returns the kept snapshots of the track, the new one last.

        The new snapshot replaces those that it repeats.

        Raises `TracksUnavailable`.
        """

    def close(self) -> None:
        """Drops the connection, and the tracks that only this process holds."""


class MemoryTracks(Generic[K]):
    """Tracks of this process: `limit` tracks of each owner, of `length` snapshots, each dropped `ttl_s` after its last
    snapshot.

    The least recently used tracks of the same owner make room. For the event loop's thread.
    """

    def __init__(self, length: int, ttl_s: float, limit: int) -> None:
        self._length = length
        self._ttl = ttl_s
        self._limit = limit
        # By owner, the least recently used track first.
        self._held: dict[str, OrderedDict[TrackName, tuple[float, list[K]]]] = defaultdict(OrderedDict)
        self._sweep: asyncio.TimerHandle | None = None

    async def append(self, name: TrackName, snapshot: K) -> list[K]:
        now = time.monotonic()
        self._forget(now)
        held = self._held[name.owner]
        _, before = held.pop(name, (now, []))
        others = [one for one in before if not one.names.repeats(snapshot.names)]
        track = [*others, snapshot][-self._length :]
        held[name] = now, track
        if len(held) > self._limit:
            held.popitem(last=False)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._ttl, self._sweep_up)
        return track

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._held.clear()

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def _forget(self, now: float) -> None:
        for owner, held in list(self._held.items()):
            while held and next(iter(held.values()))[0] <= now - self._ttl:
                held.popitem(last=False)
            if not held:
                del self._held[owner]

    def _sweep_up(self) -> None:
        """Drops expired tracks when no request arrives either: positions of people are personal."""
        self._forget(time.monotonic())
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self._ttl, self._sweep_up) if self._held else None
