"""Locates users by the fingerprints near them. Requests and calibration use the same code."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import describe_signals, signal_feature
from reference_db.retrieval import LeftOut, first_guess, guess_by_voters, next_neighbourhood
from service.errors import CsiForeign, CsiLevelImplausible, ServiceError
from service.inference.belonging import Strangeness, describe_foreign, is_foreign
from service.inference.channels import Channels
from service.inference.feature_cache import FeatureCache
from service.inference.frame_cache import FrameCache, as_known
from service.inference.frames_ahead import FramesAhead
from service.inference.mateformer_session import Located, MateformerSession, as_users
from service.inference.plausibility import Levels, find_implausible_levels, level_of, weigh_fixes
from service.inference.query_runs import group_by_slot
from service.inference.steps import Steps, run_to_end
from service.inference.tiles import Neighbourhood, Tiles
from service.inference.user import Estimate, User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

# How the first neighbourhood is found; a calibration is valid only for the retrieval that it was measured with.
Retrieval = Literal["fused"]
RETRIEVAL: Retrieval = "fused"

_FRAMES_IN_BACKGROUND = 8  # in a run of the background session: longer runs would delay users

# Share of the memory for frames that holds the features of their fingerprints, and most bytes of it: those of a cell
# take an eighth of what its frames take, and are needed only where frames are missing.
_FEATURES, MOST_FEATURE_BYTES = 1 / 4, 2**28

_FEW = 16  # users who are located quickly enough for the event loop to wait

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class Estimator:
    """Compares each user with the fingerprints nearest the tile of a first guess."""

    def __init__(self, session: MateformerSession, most_users: int, frame_bytes: int, metrics: Metrics) -> None:
        self._session = session
        self.manifest = session.manifest
        self._channels = Channels()
        self._tiles = Tiles(self.manifest.tile_pitch, self._channels)
        self._levels = Levels()
        of_features = min(int(_FEATURES * frame_bytes), MOST_FEATURE_BYTES)
        self._features, of_frames = FeatureCache(self.manifest.features, of_features), frame_bytes - of_features
        self._frames: FrameCache | None = None
        if session.has_frames:
            self._frames = FrameCache(session, of_frames, most_users, metrics, self._features)
        self.ahead = FramesAhead(session, self._channels, self._tiles, self._features, self._frames, metrics)

    def neighbours(self, fingerprints: int) -> int:
        """How many fingerprints a user is compared with in a cell of `fingerprints`."""
        return min(self.manifest.neighbourhood_size, fingerprints)

    def locate(self, users: Sequence[User], stopwatch: Stopwatch) -> list[Estimate | ServiceError]:
        """Returns the estimate of each user, of any cells, or `CsiLevelImplausible` or `CsiForeign`.

        Takes at most `most_users` users. For the session's owner thread only. Raises `InferenceFailed` or
        `OutOfMemory`.
        """
        return run_to_end(self.locate_in_steps(users, stopwatch))

    def locate_in_steps(self, users: Sequence[User], stopwatch: Stopwatch) -> Steps[list[Estimate | ServiceError]]:
        """As `locate`, but yields before anything that takes long: many users, missing frames, or no frames at all.

        The thread that continues must be the owner thread, or in its place.
        """
        if len(users) > _FEW or self._session.wants_few_shapes:
            yield
        coarse = np.stack([user.coarse for user in users])
        accuracy = np.array([user.accuracy for user in users], np.float32)
        cells: dict[CellVersion, list[int]] = defaultdict(list)
        for row, user in enumerate(users):
            cells[user.version].append(row)
        places = np.empty_like(coarse)
        features = np.empty((len(users), self.manifest.features), np.float32)
        snr_db, belonging = np.empty(len(users), np.float32), np.ones(len(users))
        refused: dict[int, CsiLevelImplausible | CsiForeign] = {}
        for version, rows in cells.items():
            csi = np.stack([users[row].csi for row in rows])  # cells differ in shape
            with stopwatch.stage("retrieve"):
                limits, null = users[rows[0]].limits, users[rows[0]].belonging  # users of one version have the same
                signals, levels = describe_signals(as_complex(csi)), level_of(csi)
                guess = weigh_fixes(version.references, signals.features, coarse[rows], accuracy[rows], limits)
                places[rows] = guess_by_voters(version.references, *guess)
                coarse[rows], accuracy[rows], snr_db[rows] = guess.coarse, guess.accuracy, signals.snr_db
                if null is not None:
                    strangeness = Strangeness.of(version.references, guess.voters, signals.snr_db)
                    belonging[rows] = p = null.p_values(strangeness)
                    for i in np.flatnonzero(is_foreign(p)):
                        refused[rows[i]] = describe_foreign(p[i], signals.snr_db[i], places[rows[i]])
                if limits is not None:
                    implausible = find_implausible_levels(self._levels, version, levels, guess.voters, limits)
                    refused |= {rows[i]: error for i, error in implausible.items()}
            with stopwatch.stage("describe"):
                features[rows] = self._session.describe(self._channels.of(version), csi)
        asked = as_users(features, coarse, accuracy)
        covariances, streams = Located.allocate(len(users), self._session.streams)[1:]
        for _ in range(self.manifest.passes):
            near: dict[int, Neighbourhood] = {}
            with stopwatch.stage("retrieve"):
                for version, rows in cells.items():
                    finite = np.nan_to_num(places[rows])
                    found = self._tiles.neighbourhoods(version, finite, self.neighbours(len(version)))
                    near |= zip(rows, found, strict=True)
            self.ahead.note_entered(near, places)
            lost = ~np.isfinite(places).all(axis=1)
            located = yield from self._compare(near, asked, stopwatch)
            places, covariances, streams = located
            places[lost], covariances[lost] = np.nan, np.nan
        used = np.isfinite(accuracy).tolist()
        judged = zip(places, covariances, used, snr_db.tolist(), belonging.tolist(), streams, strict=True)
        return [refused.get(row) or Estimate(*one) for row, one in enumerate(judged)]

    def locate_in_background(
        self, version: CellVersion, csi: _Floats, coarse: _Floats, accuracy: _Floats, left_out: LeftOut | None
    ) -> Located:
        """As `locate`, for users of one cell, each with v coarse positions, one after the other: `[b, v, ...]`.

        `csi` float32 `[b, antennas, subcarriers, 2]`, `coarse` float32 `[b, v, 2]` and `accuracy` float32 `[b, v]` as
        in `User`. `left_out`: fingerprints that each user is not compared with. Runs the `full` graph on the background
        session, because users who ignore different fingerprints cannot share frames. Users with the same neighbourhood
        cost little more than one of them. Blocking. Raises `InferenceFailed` or `OutOfMemory`.
        """
        variants, channel = coarse.shape[1], self._channels.of(version)
        signals, features = (
            np.repeat(found, variants, axis=0)
            for found in (signal_feature(as_complex(csi)), self._session.describe_in_background(channel, csi))
        )
        coarse, accuracy = coarse.reshape(-1, 2), accuracy.ravel()
        if left_out is not None:
            left_out = left_out._replace(own=np.repeat(left_out.own, variants))
        n = self.neighbours(len(version) - (0 if left_out is None else left_out.most))
        places = first_guess(version.references, signals, coarse, accuracy, left_out)
        asked = as_users(features, coarse, accuracy)
        located = Located.allocate(len(places), streams=0)._replace(positions=places)
        for _ in range(self.manifest.passes):
            lost = ~np.isfinite(located.positions).all(axis=1)
            centres = np.nan_to_num(located.positions)
            near = next_neighbourhood(version.references, centres, n, left_out, self.manifest.tile_pitch)
            located = self._compare_in_background(version, channel, near, asked)
            located.positions[lost], located.covariances[lost] = np.nan, np.nan
        return Located(*(part.reshape(len(csi), variants, *part.shape[1:]) for part in located))

    def _compare_in_background(
        self, version: CellVersion, channel: ChannelTransform, near: _Rows, users: dict[str, _Floats]
    ) -> Located:
        """Compares users with neighbourhoods `near` `[b, n]` of one version."""
        located = Located.allocate(len(near), streams=0)
        alike: dict[bytes, list[int]] = defaultdict(list)
        for row, rows in enumerate(near):
            alike[rows.tobytes()].append(row)
        by_size: dict[int, list[list[int]]] = defaultdict(list)
        for group in alike.values():
            size = 1 << (len(group) - 1).bit_length()
            by_size[size].append(group + group[-1:] * (size - len(group)))
        for groups in by_size.values():
            for first in range(0, len(groups), _FRAMES_IN_BACKGROUND):
                rows = np.array(groups[first : first + _FRAMES_IN_BACKGROUND])  # [frames, users]
                hoods = [Neighbourhood(version, channel, near[group[0]], b"") for group in rows]
                known = as_known(hoods, self._session.describe_in_background)
                asked = {name: part[rows, 0] for name, part in users.items()}
                answer = Located.of(self._session.run_in_background("full", known | asked))
                located.positions[rows], located.covariances[rows] = answer.positions, answer.covariances
        return located

    def prepare(self, version: CellVersion) -> None:
        """Makes what users of a version need, before the first of them waits for it. Blocking. For any thread."""
        self._channels.of(version)

    def resident_bytes(self, version: CellVersion) -> int:
        """Memory that a version takes together with what is made for it. Blocking. For any thread."""
        return version.resident_bytes + self._channels.of(version).nbytes

    def prove(self) -> None:
        """Runs every graph. Blocking. Not for the owner thread. Raises `InferenceFailed` unless the answers agree."""
        if self._frames is None:
            self._session.prove()
        else:
            self.ahead.prove_frame(self._frames)

    @property
    def frame_bytes(self) -> int:
        """Memory that the frames held take."""
        return 0 if self._frames is None else self._frames.held_bytes

    @property
    def feature_bytes(self) -> int:
        """Memory that the features of fingerprints take that are held for frames."""
        return self._features.held_bytes

    @property
    def frame_pool_bytes(self) -> int:
        """Memory allocated for frames."""
        return 0 if self._frames is None else self._frames.pool_bytes

    def _compare(
        self, near: dict[int, Neighbourhood], users: dict[str, _Floats], stopwatch: Stopwatch
    ) -> Steps[Located]:
        """Compares each user, by row, with a neighbourhood.

        Uses the `full` graph for cells that are too small for a frame and for artifacts without frames.
        """
        located = Located.allocate(len(near), self._session.streams)
        whole = self.manifest.neighbourhood_size
        shared = [row for row, one in near.items() if self._frames and len(one.rows) == whole]
        if len(shared) < len(near) or (self._frames and self._frames.lacks_any(near[row].key for row in shared)):
            yield
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
                known = as_known([near[row] for row in rows], self._session.describe, self._features)
            with stopwatch.stage("infer"):
                outputs = self._session.run("full", known | {name: part[rows] for name, part in users.items()})
            for part, answer in zip(located, Located.of(outputs), strict=True):
                part[rows] = answer[:, 0]
        return located

    def _query(self, users_in_slots: list[tuple[int, int]], users: dict[str, _Floats], located: Located) -> None:
        for rows, slots in group_by_slot(users_in_slots, self._session.wants_few_shapes):
            asked = {name: part[rows, 0] for name, part in users.items()}
            for part, answer in zip(located, self._session.query(asked | {"slots": slots}), strict=True):
                part[rows] = answer
