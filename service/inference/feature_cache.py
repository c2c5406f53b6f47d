"""The feature cache: fingerprints already described, shared by all neighbourhoods that they are in."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from service.inference.tiles import Neighbourhood, name_description

# Features float32 `[t, F]` of CSI `[t, antennas, subcarriers, 2]` of one cell.
Describe = Callable[[ChannelTransform, NDArray[np.float32]], NDArray[np.float32]]

_Floats = NDArray[np.float32]
_Key = tuple[bytes, int]


class FeatureCache:
    """Holds `width` features a fingerprint, at most `budget` bytes; evicts the least recently used.

    A fingerprint's key is its id and what its CSI is degraded and described with. So a new version of a cell describes
    only the fingerprints that it adds, unless its description changed. Threads may share it.
    """

    def __init__(self, width: int, budget: int) -> None:
        self._held = np.empty((budget // (4 * width), width), np.float32)  # the system commits memory as rows fill
        self._rows: OrderedDict[_Key, int] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def describe(self, near: Neighbourhood, fingerprints: NDArray[np.int64], describe: Describe) -> _Floats:
        """Features float32 `[..., width]` of `fingerprints` `[...]` of a neighbourhood's version.

        Those that are not held are described together, each once, and then held. Raises what `describe` raises.
        """
        different, where = np.unique(fingerprints, return_inverse=True)
        description = name_description(near.version, near.channel)
        keys = [(description, one) for one in near.version.ids[different].tolist()]
        with self._lock:
            rows = np.array([self._rows.get(key, -1) for key in keys], np.int64)
            held, missing = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
            for i in held.tolist():
                self._rows.move_to_end(keys[i])
            if not len(missing):
                return self._held[rows[where]].reshape(*fingerprints.shape, -1)
            features = np.empty((len(keys), self._held.shape[1]), np.float32)
            features[held] = self._held[rows[held]]
        features[missing] = described = describe(near.channel, near.version.csi_of(different[missing]))
        self._hold([keys[i] for i in missing.tolist()], described)
        return features[where].reshape(*fingerprints.shape, -1)

    @property
    def room(self) -> int:
        """How many more fingerprints displace no others. For any thread."""
        return len(self._held) - len(self._rows)

    @property
    def held_bytes(self) -> int:
        """Size of all features held. For any thread."""
        return len(self._rows) * self._held.strides[0]

    def _hold(self, keys: Sequence[_Key], features: _Floats) -> None:
        most = len(self._held)
        if not most:
            return
        with self._lock:
            for key, described in zip(keys[-most:], features[-most:], strict=True):
                row = self._rows.get(key)  # another thread may have described it meanwhile
                if row is None:
                    row = len(self._rows) if len(self._rows) < most else self._rows.popitem(last=False)[1]
                    self._rows[key] = row
                self._held[row] = described
