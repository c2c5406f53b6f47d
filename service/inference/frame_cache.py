"""The frame cache: neighbourhoods already encoded by the model, shared by all users located in them."""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.inference.feature_cache import Describe, FeatureCache
from service.inference.mateformer_session import MateformerSession
from service.inference.tiles import Neighbourhood
from service.telemetry.metrics import Metrics

_AT_ONCE = 16  # neighbourhoods that are encoded together; bounds the memory for that
# Shares of the frames that may be encoded ahead, and not used yet: always, and into slots that are free.
_AHEAD, _FREE_AHEAD = 1 / 8, 1 / 2


class FrameCache:
    """Maps frames to slots of the session's pools. For the owner thread only.

    Holds at most `budget` bytes of frames of one size, but always room for `least` frames; evicts the least recently
    used. A frame's key is the content of its neighbourhood and the transform of its cell's CSI, so a new version of a
    cell drops only the frames whose fingerprints changed, unless its description did.
    """

    def __init__(
        self,
        session: MateformerSession,
        budget: int,
        least: int,
        metrics: Metrics,
        features: FeatureCache | None = None,
    ) -> None:
        """`features`: of the fingerprints; None: they are described for each frame."""
        self._session = session
        self._features = features
        self._metrics = metrics
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._ahead: OrderedDict[bytes, None] = OrderedDict()  # encoded ahead, and not used yet; the oldest first
        self._frame_bytes = session.frame_bytes
        capacity = max(least + 1, budget // self._frame_bytes)  # one slot may be reserved
        self._capacity, self._used = capacity, 0  # slots from `_used` on never held a frame
        self._free: list[int] = []
        session.make_room(capacity)
        self.pool_bytes = capacity * self._frame_bytes

    def slots(self, neighbourhoods: Iterable[Neighbourhood]) -> dict[bytes, int]:
        """Returns the slot of each neighbourhood's frame, by key; encodes missing frames first.

        Takes at most `least` different neighbourhoods. Raises `InferenceFailed` or `OutOfMemory`.
        """
        wanted = {one.key: one for one in neighbourhoods}
        for key in wanted.keys() & self._slots.keys():
            self._slots.move_to_end(key)
        ahead = wanted.keys() & self._ahead.keys()
        for key in ahead:
            del self._ahead[key]
        missing = [one for key, one in wanted.items() if key not in self._slots]
        self._metrics.frames_found(hits=len(wanted) - len(missing), misses=len(missing), ahead=len(ahead))
        for first in range(0, len(missing), _AT_ONCE):
            self._encode(missing[first : first + _AT_ONCE])
        return {key: self._slots[key] for key in wanted}

    def reserve(self) -> int:
        """Takes a slot out of use, so that a frame can be encoded into it in the background. One at a time."""
        if self._free:
            return self._free.pop()
        if self._used == self._capacity:
            key, slot = self._slots.popitem(last=False)
            self._ahead.pop(key, None)
            return slot
        self._used += 1
        return self._used - 1

    def reserve_ahead(self) -> int | None:
        """As `reserve`, for a frame that no user has asked for; None where there are too few slots for such frames.

        Beyond their share, and where no slot is free, frames encoded ahead replace each other.
        """
        if not self.most_ahead:
            return None
        if len(self._ahead) < self.most_ahead or self.has_free_ahead:
            return self.reserve()
        oldest, _ = self._ahead.popitem(last=False)
        return self._slots.pop(oldest)

    def reserve_free(self) -> int | None:
        """As `reserve_ahead`, but takes a free slot or none: no other frame makes room."""
        return self.reserve() if self.has_free_ahead else None

    def admit(self, key: bytes, slot: int) -> None:
        """Puts a reserved slot into use: it now holds the frame of this key."""
        if key in self._slots:  # encoded for a user meanwhile
            self.release(slot)
        else:
            self._slots[key] = slot

    def admit_ahead(self, key: bytes, slot: int) -> None:
        """As `admit`, for a slot from `reserve_ahead` or `reserve_free`."""
        if key not in self._slots:
            self._ahead[key] = None
        self.admit(key, slot)

    def lacks_any(self, keys: Iterable[bytes]) -> bool:
        """Whether a frame is missing, which `slots` would encode."""
        return any(key not in self._slots for key in keys)

    def find_entered(self, keys: Iterable[bytes]) -> set[bytes]:
        """The keys of frames that users have not been in since they were encoded, or that are missing."""
        return {key for key in keys if key in self._ahead or key not in self._slots}

    def release(self, slot: int) -> None:
        """Frees a reserved slot."""
        self._free.append(slot)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    @property
    def has_free_ahead(self) -> bool:
        """Whether `reserve_free` finds a slot. For any thread; another may take the slot first."""
        free = bool(self._free) or self._used < self._capacity
        return free and len(self._ahead) < int(_FREE_AHEAD * self._capacity)

    @property
    def most_ahead(self) -> int:
        """How many frames may always be ahead."""
        return int(_AHEAD * self._capacity)

    @property
    def held_bytes(self) -> int:
        """Size of all frames held. For any thread."""
        return self._frame_bytes * len(self._slots)

    @property
    def used_keys(self) -> list[bytes]:
        """Keys of all frames that users have been in, the most recently used first."""
        return [key for key in reversed(self._slots) if key not in self._ahead]

    def _encode(self, neighbourhoods: list[Neighbourhood]) -> None:
        started = time.perf_counter()
        slots = [self.reserve() for _ in neighbourhoods]
        try:
            known = as_known(neighbourhoods, self._session.describe, self._features)
            self._session.encode({**known, "slots": np.array(slots)})
        except Exception:  # on any error the slots are free again
            self._free += slots
            raise
        self._slots |= zip((one.key for one in neighbourhoods), slots, strict=True)
        self._metrics.frames_encoded(time.perf_counter() - started)


def as_known(
    neighbourhoods: Sequence[Neighbourhood], describe: Describe, held: FeatureCache | None = None
) -> dict[str, NDArray[np.float32]]:
    """Returns neighbourhoods of one size as inputs of the graphs `frame` and `full`.

    Each version's fingerprints are described once, however many of the neighbourhoods they are in; those `held` are
    not described again.
    """
    versions: dict[CellVersion, list[int]] = defaultdict(list)
    for i, near in enumerate(neighbourhoods):
        versions[near.version].append(i)
    rows = np.stack([near.rows for near in neighbourhoods])
    features = [_describe(neighbourhoods[some[0]], rows[some], describe, held) for some in versions.values()]
    positions = np.empty((*rows.shape, 2), np.float32)
    sigmas = np.empty(rows.shape, np.float32)
    for version, some in versions.items():
        positions[some], sigmas[some] = version.positions[rows[some]], version.sigmas[rows[some]]
    known = {"positions_known": positions, "sigmas_known": sigmas}
    if len(versions) == 1:
        return known | {"features_known": features[0]}
    order = np.argsort(np.concatenate(list(versions.values())))
    return known | {"features_known": np.concatenate(features)[order]}


def _describe(
    near: Neighbourhood, rows: NDArray[np.int64], describe: Describe, held: FeatureCache | None
) -> NDArray[np.float32]:
    """The features `[b, n, F]` of fingerprints `[b, n]` of a neighbourhood's version."""
    if held is not None:
        return held.describe(near, rows, describe)
    different, where = np.unique(rows, return_inverse=True)
    features: NDArray[np.float32] = describe(near.channel, near.version.csi_of(different))[where.reshape(rows.shape)]
    return features
