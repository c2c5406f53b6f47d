"""Locates users by the fingerprints near them. Requests and calibration use the same code."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import signal_feature
from reference_db.retrieval import first_guess, guess_by_voters, next_neighbourhood
from service.errors import CsiLevelImplausible, ServiceError
from service.inference.channels import Channels
from service.inference.frame_cache import FrameCache, as_known
from service.inference.mateformer_session import Located, MateformerSession, as_users
from service.inference.plausibility import (
    Levels,
    PlausibilityLimits,
    find_implausible_levels,
    level_of,
    weigh_fixes,
)
from service.inference.tiles import Neighbourhood, Tiles
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

# How the first neighbourhood is found; a calibration is valid only for the retrieval that it was measured with.
Retrieval = Literal["fused"]
RETRIEVAL: Retrieval = "fused"

# More frames at once are slower: the gathered keys and values no longer fit into the processor's cache.
_FRAMES_A_RUN = 16

_MOST_WARMED = 256  # tiles of a new version; other tiles are encoded at their first use

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class User(NamedTuple):
    """A user to be located in a cell: CSI float32 `[antennas, subcarriers, 2]`, finite and not all zero.

    `coarse` float32 `[2]` metres; `accuracy` is its 1-sigma error on each axis in metres. Both are NaN for a user
    without a coarse position. `limits`: what users of the cell keep to; None: unchecked.
    """

    version: CellVersion
    csi: _Floats
    coarse: _Floats
    accuracy: float
    limits: PlausibilityLimits | None = None


class Estimate(NamedTuple):
    """A user's local position, float32 `[2]` metres, and its covariance, float32 `[2, 2]` square metres.

    Both are NaN where the model has no answer. The covariance is the model's own, not calibrated in this cell.
    `coarse_used`: whether the user had a coarse position that the signal does not contradict.
    """

    position: _Floats
    covariance: _Floats
    coarse_used: bool


class Estimator:
    """Compares each user with the fingerprints nearest the tile of a first guess."""

    def __init__(self, session: MateformerSession, most_users: int, frame_bytes: int, metrics: Metrics) -> None:
        self._session = session
        self.manifest = session.manifest
        self._channels = Channels()
        self._tiles = Tiles(self.manifest.tile_pitch, self._channels)
        self._levels = Levels()
        self._frames = FrameCache(session, frame_bytes, most_users, metrics) if session.has_frames else None
        self._one_reserved = threading.Lock()  # the pools have room for one reserved slot beside a dispatch

    def neighbours(self, fingerprints: int) -> int:
        """How many fingerprints a user is compared with in a cell of `fingerprints`."""
        return min(self.manifest.neighbourhood_size, fingerprints)

    def locate(self, users: Sequence[User], stopwatch: Stopwatch) -> list[Estimate | ServiceError]:
        """Returns the estimate of each user, of any cells, or `CsiLevelImplausible`.

        Takes at most `most_users` users. For the session's owner thread only. Raises `InferenceFailed` or
        `OutOfMemory`.
        """
        coarse = np.stack([user.coarse for user in users])
        accuracy = np.array([user.accuracy for user in users], np.float32)
        cells: dict[CellVersion, list[int]] = defaultdict(list)
        for row, user in enumerate(users):
            cells[user.version].append(row)
        places = np.empty_like(coarse)
        features = np.empty((len(users), self.manifest.features), np.float32)
        refused: dict[int, CsiLevelImplausible] = {}
        for version, rows in cells.items():
            csi = np.stack([users[row].csi for row in rows])  # cells differ in shape
            with stopwatch.stage("retrieve"):
                limits = users[rows[0]].limits  # users of one version have the same
                signals, levels = signal_feature(as_complex(csi)), level_of(csi)
                guess = weigh_fixes(version.references, signals, coarse[rows], accuracy[rows], limits)
                places[rows] = guess_by_voters(version.references, *guess)
                coarse[rows], accuracy[rows] = guess.coarse, guess.accuracy
                if limits is not None:
                    implausible = find_implausible_levels(self._levels, version, levels, guess.voters, limits)
                    refused |= {rows[i]: error for i, error in implausible.items()}
            with stopwatch.stage("describe"):
                features[rows] = self._session.describe(self._channels.of(version), csi)
        asked = as_users(features, coarse, accuracy)
        covariances = np.empty((len(users), 2, 2), np.float32)
        for _ in range(self.manifest.passes):
            near: dict[int, Neighbourhood] = {}
            with stopwatch.stage("retrieve"):
                for version, rows in cells.items():
                    finite = np.nan_to_num(places[rows])
                    found = self._tiles.neighbourhoods(version, finite, self.neighbours(len(version)))
                    near |= zip(rows, found, strict=True)
            lost = ~np.isfinite(places).all(axis=1)
            places, covariances = self._compare(near, asked, stopwatch)
            places[lost], covariances[lost] = np.nan, np.nan
        used = np.isfinite(accuracy).tolist()
        return [
            refused.get(row) or Estimate(place, covariance, coarse_used)
            for row, (place, covariance, coarse_used) in enumerate(zip(places, covariances, used, strict=True))
        ]

    def locate_in_background(
        self, version: CellVersion, csi: _Floats, coarse: _Floats, accuracy: _Floats, left_out: _Rows | None
    ) -> _Floats:
        """As `locate`, for users of one cell; can leave one fingerprint out of each user's neighbourhood.

        `csi` float32 `[b, antennas, subcarriers, 2]`, `coarse` float32 `[b, 2]` and `accuracy` float32 `[b]` as in
        `User`; `left_out` int64 `[b]` rows of `version`, or None. Runs the `full` graph on the background session,
        because users with different neighbourhoods cannot share frames. Blocking. Raises `InferenceFailed` or
        `OutOfMemory`.
        """
        n = self.neighbours(len(version) - (left_out is not None))
        places = first_guess(version.references, signal_feature(as_complex(csi)), coarse, accuracy, left_out)
        channel = self._channels.of(version)
        features = self._session.describe_in_background(channel, csi)
        for _ in range(self.manifest.passes):
            lost = ~np.isfinite(places).all(axis=1)
            near = next_neighbourhood(version.references, np.nan_to_num(places), n, left_out, self.manifest.tile_pitch)
            known = as_known(
                [Neighbourhood(version, channel, rows, b"") for rows in near], self._session.describe_in_background
            )
            places = self._session.locate_in_background(known, features, coarse, accuracy).positions
            places[lost] = np.nan
        return places

    def prepare(self, version: CellVersion) -> None:
        """Makes what users of a version need, before the first of them waits for it. Blocking. For any thread."""
        self._channels.of(version)

    def resident_bytes(self, version: CellVersion) -> int:
        """Memory that a version takes together with what is made for it. Blocking. For any thread."""
        return version.resident_bytes + self._channels.of(version).nbytes

    def prove(self) -> None:
        """Runs every graph. Blocking. Not for the owner thread. Raises `InferenceFailed` unless the answers agree."""
        frames = self._frames
        if frames is None:
            self._session.prove()
            return
        with self._one_reserved:
            slot = self._session.submit(frames.reserve).result()
            try:
                self._session.prove_frame(slot)
            finally:
                self._session.submit(frames.release, slot).result()

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
                encoded += self._encode(version, place)
        return encoded

    @property
    def frame_bytes(self) -> int:
        """Memory that the frames held take."""
        return 0 if self._frames is None else self._frames.held_bytes

    @property
    def frame_pool_bytes(self) -> int:
        """Memory allocated for frames."""
        return 0 if self._frames is None else self._frames.pool_bytes

    def _tiles_in_use(self, version: CellVersion) -> list[_Floats]:
        centres = self._tiles.centres(version)
        used = self._frames.keys if self._frames else []
        return [centres[key] for key in used if key in centres][:_MOST_WARMED]

    def _encode(self, version: CellVersion, centre: _Floats) -> bool:
        """Encodes the frame around a tile's centre unless it is held; returns whether it did."""
        frames = self._frames
        reserved = self._session.submit(self._reserve, version, centre).result()
        if frames is None or reserved is None:
            return False
        near, slot = reserved
        try:
            known = as_known([near], self._session.describe_in_background)
            self._session.run_in_background("frame", {**known, "slots": np.array([slot])})
        except Exception:  # on any error the slot is free again
            self._session.submit(frames.release, slot).result()
            raise
        self._session.submit(frames.admit, near.key, slot).result()
        return True

    def _reserve(self, version: CellVersion, centre: _Floats) -> tuple[Neighbourhood, int] | None:
        """The neighbourhood of a tile and a reserved slot for its frame; None when no frame is to be encoded."""
        (near,) = self._tiles.neighbourhoods(version, centre[np.newaxis], self.neighbours(len(version)))
        if self._frames is None or len(near.rows) < self.manifest.neighbourhood_size or near.key in self._frames:
            return None
        return near, self._frames.reserve()

    def _compare(self, near: dict[int, Neighbourhood], users: dict[str, _Floats], stopwatch: Stopwatch) -> Located:
        """Compares each user, by row, with a neighbourhood; returns positions `[b, 2]` and covariances `[b, 2, 2]`.

        Uses the `full` graph for cells that are too small for a frame and for artifacts without frames.
        """
        located = Located(np.empty((len(near), 2), np.float32), np.empty((len(near), 2, 2), np.float32))
        whole = self.manifest.neighbourhood_size
        shared = [row for row, one in near.items() if self._frames and len(one.rows) == whole]
        if self._frames and shared:
            with stopwatch.stage("frame"):
                slots = self._frames.slots(near[row] for row in shared)
            with stopwatch.stage("infer"):
                self._query([(row, slots[near[row].key]) for row in shared], users, located)
        alone: dict[int, list[int]] = defaultdict(list)
        for row in sorted(near.keys() - set(shared)):
            alone[len(near[row].rows)].append(row)
        for rows in alone.values():
            with stopwatch.stage("describe"):
                known = as_known([near[row] for row in rows], self._session.describe)
            with stopwatch.stage("infer"):
                outputs = self._session.run("full", known | {name: part[rows] for name, part in users.items()})
            answer = Located.of(outputs)
            located.positions[rows], located.covariances[rows] = answer.positions[:, 0], answer.covariances[:, 0]
        return located

    def _query(self, users_in_slots: list[tuple[int, int]], users: dict[str, _Floats], located: Located) -> None:
        for rows, slots in group_by_slot(users_in_slots, self._session.wants_few_shapes):
            asked = {name: part[rows, 0] for name, part in users.items()}
            answer = Located.of(self._session.run("query", asked | {"slots": slots}))
            located.positions[rows], located.covariances[rows] = answer


def group_by_slot(users_in_slots: Sequence[tuple[int, int]], few_shapes: bool) -> list[tuple[_Rows, _Rows]]:
    """Groups users `(row, slot)` into runs of the `query` graph: rows `[frames, users]` and slots `[frames]`.

    A run is a rectangle. It holds frames with about equally many users; the last user of a frame is repeated to fill
    its row, never more than half of the row. With `few_shapes` both sides are powers of two, and the last frame is
    repeated too.
    """
    by_slot: dict[int, list[int]] = defaultdict(list)
    for row, slot in users_in_slots:
        by_slot[slot].append(row)
    by_size: dict[int, list[int]] = defaultdict(list)
    for slot, rows in by_slot.items():
        by_size[(len(rows) - 1).bit_length()].append(slot)
    runs = []
    for size, slots_of_size in by_size.items():
        for first in range(0, len(slots_of_size), _FRAMES_A_RUN):
            slots = slots_of_size[first : first + _FRAMES_A_RUN]
            width = max(len(by_slot[slot]) for slot in slots)
            if few_shapes:
                width, height = 1 << size, 1 << (len(slots) - 1).bit_length()
                slots = slots + slots[-1:] * (height - len(slots))
            filled = [by_slot[slot] + by_slot[slot][-1:] * (width - len(by_slot[slot])) for slot in slots]
            runs.append((np.array(filled, np.int64), np.array(slots, np.int64)))
    return runs
