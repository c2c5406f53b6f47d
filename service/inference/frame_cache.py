"""The frame cache: neighbourhoods already encoded by the model, shared by all users located in them."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.inference.mateformer_session import MateformerSession
from service.inference.tiles import Neighbourhood
from service.telemetry.metrics import Metrics

_AT_ONCE = 8  # neighbourhoods in one run of the `frame` graph; bounds its memory


class FrameCache:
    """Maps frames to slots of the session's pools. For the owner thread only.

    Holds at most `budget` bytes of frames of one size, but always room for `least` frames; evicts the least recently
    used. A frame's key is the content of its neighbourhood, so a new version of a cell drops only the frames whose
    fingerprints changed.
    """

    def __init__(self, session: MateformerSession, budget: int, least: int, metrics: Metrics) -> None:
        self._session = session
        self._metrics = metrics
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._frame_bytes = session.frame_bytes
        capacity = max(least + 1, budget // self._frame_bytes)  # one slot may be reserved
        self._free = list(range(capacity))
        session.make_room(capacity)
        self.pool_bytes = capacity * self._frame_bytes

    def slots(self, neighbourhoods: Iterable[Neighbourhood]) -> dict[bytes, int]:
        """Returns the slot of each neighbourhood's frame, by key; encodes missing frames first.

        Takes at most `least` different neighbourhoods. Raises `InferenceFailed` or `OutOfMemory`.
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
        """Takes a slot out of use, so that a frame can be encoded into it in the background. One at a time."""
        return self._free.pop() if self._free else self._slots.popitem(last=False)[1]

    def admit(self, key: bytes, slot: int) -> None:
        """Puts a reserved slot into use: it now holds the frame of this key."""
        if key in self._slots:  # encoded for a user meanwhile
            self.release(slot)
        else:
            self._slots[key] = slot

    def release(self, slot: int) -> None:
        """Frees a reserved slot."""
        self._free.append(slot)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    @property
    def held_bytes(self) -> int:
        """Size of all frames held. For any thread."""
        return self._frame_bytes * len(self._slots)

    @property
    def keys(self) -> list[bytes]:
        """Keys of all frames held, the most recently used first."""
        return list(reversed(self._slots))

    def _encode(self, neighbourhoods: list[Neighbourhood]) -> None:
        started = time.perf_counter()
        slots = [self.reserve() for _ in neighbourhoods]
        try:
            self._session.run("frame", as_known(neighbourhoods, slots))
        except Exception:  # on any error the slots are free again
            self._free += slots
            raise
        self._slots |= zip((one.key for one in neighbourhoods), slots, strict=True)
        self._metrics.frames_encoded(time.perf_counter() - started)


def as_known(neighbourhoods: Sequence[Neighbourhood], slots: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """Returns the inputs of the `frame` graph that encode neighbourhoods of one size into slots of the pools."""
    return {
        "csi_known": np.stack([one.csi for one in neighbourhoods]),
        "positions_known": np.stack([one.positions for one in neighbourhoods]),
        "slots": np.array(slots),
    }
