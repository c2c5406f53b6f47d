"""Frames: neighbourhoods already encoded by the network, ready for any user that is to be located in them."""

import time
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from service.metrics import Metrics
from service.network import Network
from service.tiles import Neighbourhood

_Array = NDArray[np.float32]

_AT_ONCE = 8  # neighbourhoods in one run of the `frame` graph; bounds its memory


class FrameCache:
    """Keeps frames of one size in slots of arrays that the `query` graph gathers from. For the owner thread only.

    At most `budget` bytes, and never fewer frames than `least`; those not used for longest make room. A frame is named
    by the content of its neighbourhood, so that a new version of a cell drops only those that it touches. Memory is
    taken as slots are first used.
    """

    def __init__(self, network: Network, budget: int, least: int, metrics: Metrics) -> None:
        self._network = network
        self._budget = budget
        self._least = least
        self._metrics = metrics
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._pools: dict[str, _Array] = {}  # [slots, ...] a part

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

    @property
    def pools(self) -> dict[str, _Array]:
        """What the `query` graph gathers from."""
        return self._pools

    def _encode(self, neighbourhoods: list[Neighbourhood]) -> None:
        started = time.perf_counter()
        csi_known = np.stack([one.csi for one in neighbourhoods])
        positions_known = np.stack([one.positions for one in neighbourhoods])
        outputs = self._network.run("frame", {"csi_known": csi_known, "positions_known": positions_known})
        names = [output.name for output in self._network.manifest.graphs["frame"].outputs]
        parts = dict(zip(names, outputs, strict=True)) | {"positions_known": positions_known}
        if not self._pools:
            size = sum(part[0].nbytes for part in parts.values())
            count = max(self._least, self._budget // size)
            self._pools = {name: np.empty((count, *part.shape[1:]), np.float32) for name, part in parts.items()}
        for i, one in enumerate(neighbourhoods):
            slot = self._free_slot()
            for name, part in parts.items():
                self._pools[name][slot] = part[i]
            self._slots[one.key] = slot
        frame = sum(pool[0].nbytes for pool in self._pools.values())
        self._metrics.frames_encoded(time.perf_counter() - started, frame * len(self._slots))

    def _free_slot(self) -> int:
        capacity = len(next(iter(self._pools.values())))
        return len(self._slots) if len(self._slots) < capacity else self._slots.popitem(last=False)[1]
