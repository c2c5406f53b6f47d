"""Frames and features of fingerprints that are made before users wait for them."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.retrieval import snapped
from service.inference.channels import Channels
from service.inference.feature_cache import FeatureCache
from service.inference.frame_cache import FrameCache, as_known
from service.inference.mateformer_session import MateformerSession
from service.inference.surroundings import Surroundings
from service.inference.tiles import Neighbourhood, Tiles
from service.telemetry.metrics import Metrics

_DESCRIBED_AHEAD = 128  # fingerprints in one run of the background session

_MOST_WARMED = 256  # tiles of a new version; other tiles are encoded at their first use

_Floats = NDArray[np.float32]


class FramesAhead:
    """Encodes the frames of a new version, and of tiles that users may enter next. `frames` None: there are none."""

    def __init__(
        self,
        session: MateformerSession,
        channels: Channels,
        tiles: Tiles,
        features: FeatureCache,
        frames: FrameCache | None,
        metrics: Metrics,
    ) -> None:
        self._session = session
        self._manifest = session.manifest
        self._channels = channels
        self._tiles = tiles
        self._features = features
        self._frames = frames
        self._metrics = metrics
        self._surroundings = Surroundings(session.manifest.tile_pitch)
        self._undescribed: deque[tuple[ref[CellVersion], int]] = deque()  # cells loaded, and the first row of the rest
        self._one_reserved = threading.Lock()  # besides a dispatch, the pools have room for one reserved slot

    def tiles_in_use(self, version: CellVersion) -> list[_Floats]:
        """Centres `[2]` (metres) of a cell's most recently used tiles. Blocking. Not for the owner thread."""
        return self._session.submit(self._tiles_in_use, version).result()

    def warm_tiles(self, version: CellVersion, places: Sequence[_Floats]) -> int:
        """Encodes the missing frames of the tiles around `places`; returns how many it encoded.

        Runs on the background session. Blocking. Not for the owner thread. Raises `InferenceFailed` or `OutOfMemory`.
        """
        encoded = 0
        for place in places:
            with self._one_reserved:
                if self._frames is not None:
                    encoded += self._encode(version, place, self._frames.reserve, self._frames.admit)
        return encoded

    def note_loaded(self, version: CellVersion) -> None:
        """A cell has been loaded: `encode_next` prepares it, as long as there is free memory for that.

        For any thread.
        """
        self._undescribed.append((ref(version), 0))
        if self._frames is not None and len(version) >= self._manifest.neighbourhood_size:
            self._surroundings.note_loaded(version, self._frames.most_ahead)

    @property
    def may_encode(self) -> bool:
        """Whether there is anything that users may want and that `encode_next` has not looked at."""
        return bool(self._undescribed) or (self._frames is not None and bool(self._surroundings))

    def encode_next(self) -> bool:
        """Describes some fingerprints of a loaded cell, or encodes the frame of one tile that users may enter next.

        Returns False where nothing is missing. Runs on the background session. Blocking. Not for the owner thread.
        Raises `InferenceFailed` or `OutOfMemory`.
        """
        if self._describe_ahead():
            return True
        frames = self._frames
        while frames is not None and (place := self._surroundings.take()) is not None:
            if not place.nearby and not frames.has_free_ahead:
                self._surroundings.forget_loaded()
                continue
            reserve = frames.reserve_ahead if place.nearby else frames.reserve_free
            with self._one_reserved:
                if self._encode(place.version, place.centre, reserve, frames.admit_ahead):
                    self._metrics.frame_encoded_ahead()
                    return True
        return False

    def note_entered(self, near: dict[int, Neighbourhood], places: _Floats) -> None:
        """Notes which tiles users enter, by row their neighbourhoods and their places `[b, 2]`."""
        if self._frames is None:
            return
        whole = self._manifest.neighbourhood_size
        entered = self._frames.find_entered(one.key for one in near.values() if len(one.rows) == whole)
        for row, one in near.items():
            if one.key in entered and np.isfinite(places[row]).all():
                entered.discard(one.key)
                self._surroundings.note(one.version, snapped(places[row], self._manifest.tile_pitch))

    def prove_frame(self, frames: FrameCache) -> None:
        """Runs the graphs of frames. Blocking. Not for the owner thread. Raises `InferenceFailed` unless they agree."""
        with self._one_reserved:
            slot = self._session.submit(frames.reserve).result()
            try:
                self._session.prove_frame(slot)
            finally:
                self._session.submit(frames.release, slot).result()

    def _tiles_in_use(self, version: CellVersion) -> list[_Floats]:
        centres = self._tiles.centres(version)
        used = self._frames.used_keys if self._frames else []
        return [centres[key] for key in used if key in centres][:_MOST_WARMED]

    def _describe_ahead(self) -> bool:
        """Describes some fingerprints of a cell that was loaded; False where none are left, or no room for them."""
        while self._undescribed:
            remembered, first = self._undescribed.popleft()
            version = remembered()
            if version is None or first >= len(version) or not self._features.room:
                continue
            count = min(_DESCRIBED_AHEAD, len(version) - first, self._features.room)
            self._undescribed.appendleft((remembered, first + count))
            rows = np.arange(first, first + count)
            some = Neighbourhood(version, self._channels.of(version), rows, b"")
            self._features.describe(some, rows, self._session.describe_in_background)
            return True
        return False

    def _encode(
        self,
        version: CellVersion,
        centre: _Floats,
        reserve: Callable[[], int | None],
        admit: Callable[[bytes, int], None],
    ) -> bool:
        """Encodes the frame around a tile's centre unless it is held; returns whether it did.

        `reserve` and `admit` are those of the frame cache: for whom the frame is.
        """
        reserved = self._session.submit(self._reserve, version, centre, reserve).result()
        if self._frames is None or reserved is None:
            return False
        near, slot = reserved
        try:
            known = as_known([near], self._session.describe_in_background, self._features)
            self._session.run_in_background("frame", {**known, "slots": np.array([slot])})
        except Exception:  # on any error the slot is free again
            self._session.submit(self._frames.release, slot).result()
            raise
        self._session.submit(admit, near.key, slot).result()
        return True

    def _reserve(
        self, version: CellVersion, centre: _Floats, reserve: Callable[[], int | None]
    ) -> tuple[Neighbourhood, int] | None:
        """The neighbourhood of a tile and a reserved slot for its frame; None when no frame is to be encoded."""
        whole = self._manifest.neighbourhood_size
        if self._frames is None or len(version) < whole:
            return None
        (near,) = self._tiles.neighbourhoods(version, centre[np.newaxis], whole)
        if near.key in self._frames:
            return None
        slot = reserve()
        return None if slot is None else (near, slot)
