"""Frames: neighbourhoods already encoded by the network, ready for any user that is to be located in them."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.inference.session import MateformerSession
from service.inference.tiles import Neighbourhood
from service.telemetry.metrics import Metrics

_AT_ONCE = 8  # neighbourhoods in one run of the `frame` graph; bounds its memory


class FrameCache:
    """Which frame lies in which slot of the network's pools. For the owner thread only.

    Frames of one size, at most `budget` bytes of them, and never fewer than `least`; those not used for longest make
    room. A frame is named by the content of its neighbourhood, so that a new version of a cell drops only those that
    it touches.
    """

    def __init__(self, network: MateformerSession, budget: int, least: int, metrics: Metrics) -> None:
        self._network = network
        self._metrics = metrics
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._frame_bytes = network.frame_bytes
        capacity = max(least + 1, budget // self._frame_bytes)  # one may be reserved
        self._free = list(range(capacity))
        network.make_room(capacity)
        self.pool_bytes = capacity * self._frame_bytes

    def slots(self, neighbourhoods: Iterable[Neighbourhood]) -> dict[bytes, int]:
        """In which slot the frame of each neighbourhood lies, by its key; those that are not there are encoded.

        No more than `least` different ones may be asked for at once. Raises `InferenceFailed`.
        """
        wanted = {one.key: one for one in neighbourhoods}
        for key in wanted.keys() & self._slots.keys():
            self._slots.move_to_end(key)
        missing = [one for key, one in wanted.items() if key not in self._slots]
        self._metrics.frames_found(hits=len(wanted) - len(missing), misses=len(missing))
        for first in range(0, len(missing), _AT_ONCE):
            self._encode(missing[first : first + _AT_ONCE])
        return {key: self._slots[key] for key in wanted}

    def reserve(self) -> int:
        """A slot that is nobody's until `admit` or `release`, so that a frame can be encoded into it aside."""
        return self._free.pop() if self._free else self._slots.popitem(last=False)[1]

    def admit(self, key: bytes, slot: int) -> None:
        """A reserved slot now holds the frame of this key."""
        if key in self._slots:  # somebody was quicker
            self.release(slot)
        else:
            self._slots[key] = slot

    def release(self, slot: int) -> None:
        """A reserved slot holds nothing after all."""
        self._free.append(slot)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    @property
    def held_bytes(self) -> int:
        """For any thread."""
        return self._frame_bytes * len(self._slots)

    @property
    def keys(self) -> list[bytes]:
        """Of the frames that are there, the most recently used first."""
        return list(reversed(self._slots))

    def _encode(self, neighbourhoods: list[Neighbourhood]) -> None:
        started = time.perf_counter()
        slots = [self.reserve() for _ in neighbourhoods]
        try:
            self._network.run("frame", as_known(neighbourhoods, slots))
        except Exception:  # whatever it is, they are nobody's
            self._free += slots
            raise
        self._slots |= zip((one.key for one in neighbourhoods), slots, strict=True)
        self._metrics.frames_encoded(time.perf_counter() - started)


def as_known(neighbourhoods: Sequence[Neighbourhood], slots: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """What the `frame` graph takes to encode neighbourhoods of one size into slots of the pools."""
    return {
        "csi_known": np.stack([one.csi for one in neighbourhoods]),
        "positions_known": np.stack([one.positions for one in neighbourhoods]),
        "slots": np.array(slots),
    }
