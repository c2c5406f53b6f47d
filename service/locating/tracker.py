"""Users with a track: located together with their last snapshots, as soon as there are enough."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from fingerpost.wire_provenance import TrackProvenance
from reference_db.cell import Cell
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.lookups import finish_before
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.admission import Lane
from service.inference.engine import TrajectoryEngine
from service.inference.trajectory_estimator import Points, Trajectory, points_within
from service.inference.trajectory_session import PATH_FEATURES
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.estimates import Location, Uncertainty, check_position
from service.locating.open_tracks import open_tracks
from service.locating.tracks import TrackName, TrackSnapshot
from service.settings import Settings
from service.telemetry.track_metrics import JOINT, TrackMetrics
from service.web.csi import check_shape


class TrackUser(NamedTuple):
    """A user's newest snapshot: CSI float32 `[antennas, subcarriers, 2]`.

    `received` in Unix seconds; `deadline` a moment of `time.monotonic`.
    """

    track: TrackName
    csi: NDArray[np.float32]
    received: float
    timestamp: datetime | None
    request_id: str | None
    deadline: float


class _Asked(NamedTuple):
    cell: DescribedCell
    engine: TrajectoryEngine
    answer: "asyncio.Future[Points]"


class Tracker:
    def __init__(self, trajectories: Trajectories, settings: Settings, metrics: TrackMetrics) -> None:
        self._trajectories = trajectories
        self._metrics = metrics
        self._length = trajectories.engine.artifact.manifest.vertices  # no other artifact becomes active
        self._window = settings.track_ttl_s
        self._tracks = open_tracks("csi", TrackSnapshot.from_bytes, self._length, settings)

    async def locate(self, users: Sequence[TrackUser], request: Request, lane: Lane) -> list[Location | ServiceError]:
        """Keeps each user's snapshot; where the user is by all that are kept, or why that cannot be told.

        Raises `ClientGone`.
        """
        engine = self._trajectories.engine  # for the whole request, whichever serves when it ends
        asked = [await self._ask(user, engine, lane) for user in users]
        answers = await await_or_disconnect([one.answer for one in asked if isinstance(one, _Asked)], request)
        positions = iter(answers)
        found = [self._found(one, next(positions)) if isinstance(one, _Asked) else one for one in asked]
        for one in found:
            self._metrics.tracked("scadf-moe", one.cause if isinstance(one, ServiceError) else JOINT)
        return found

    def has_learned(self, cell_id: str) -> bool:
        return cell_id in self._trajectories.engine.artifact.manifest.cells

    async def describe(self, cell_id: str, deadline: float) -> Cell | ServiceError:
        """A cell as tracks are located in it, or why they cannot be."""
        try:
            return (await self._trajectories.serve(cell_id, self._trajectories.engine, deadline)).version.cell
        except ServiceError as error:
            return error

    def close(self) -> None:
        self._tracks.close()

    async def _ask(self, user: TrackUser, engine: TrajectoryEngine, lane: Lane) -> _Asked | ServiceError:
        try:
            cell = await self._trajectories.serve(user.track.cell_id, engine, user.deadline)
            described = cell.version.cell
            check_shape(user.csi, described)
            newest = TrackSnapshot.of(user.csi, user.received, user.timestamp, user.request_id)
            kept = await finish_before(user.deadline, self._tracks.append(user.track, newest))
            csi = [one.pairs() for one in kept if self._belongs(one, newest)]
            if len(csi) < self._length:
                raise errors.TrackTooShort(
                    "/trackId", f"{len(csi)} snapshots within {self._window:g} s, {self._length} are located together"
                )
            engine.dispatcher.check_room(lane)
            trajectory = Trajectory(described, np.stack(csi), np.full((self._length, len(PATH_FEATURES)), np.nan))
            return _Asked(cell, engine, engine.dispatcher.locate(trajectory, user.deadline, lane))
        except ServiceError as error:
            return error

    def _belongs(self, snapshot: TrackSnapshot, newest: TrackSnapshot) -> bool:
        """The cell may have changed meanwhile, and clients' clocks may be set back."""
        return snapshot.csi.shape == newest.csi.shape and abs(snapshot.time - newest.time) <= self._window

    def _found(self, asked: _Asked, answer: Points | ServiceError) -> Location | ServiceError:
        if isinstance(answer, ServiceError):
            return answer
        points, version, manifest = answer.positions[:-1], asked.cell.version, asked.engine.artifact.manifest
        try:
            check_position(points[-1])
        except errors.EstimateNotFinite as error:
            return error
        wide = manifest.radius + manifest.tolerance
        if not points_within(points, wide):  # nor where one is not finite
            reason = f"as located, the last {self._length} snapshots do not lie within {wide:.1f} m of one of them"
            return errors.TrackTooWide("/trackId", reason)
        provenance = TrackProvenance(
            artifact=asked.engine.reference,
            cell_version=version.version,
            snapshots=self._length,
            path_features="estimated",
        )
        newest, scales = manifest.vertices - 1, manifest.scales.estimated.vertex
        uncertainty, described = Uncertainty(answer.covariances[newest], scales), provenance.model_dump()
        return Location(points[newest], version.cell, asked.cell.frame, uncertainty, provenance, described)
