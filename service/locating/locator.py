"""`POST /locate` and `/locate/batch`: the whole path of a request, top to bottom."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service import errors
from service.auth.middleware import key_id_of
from service.cells.model_choice import Chosen, ModelChoice
from service.cells.registry import ServedCells
from service.cells.stations import Station
from service.errors import ServiceError
from service.inference.admission import Lane
from service.inference.estimator import Estimate
from service.inference.lwlm_estimator import MeasuredUser
from service.inference.workers import Workers
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.batch import describe_batch, map_results
from service.locating.coarse_position import locate_coarsely
from service.locating.estimates import Received
from service.locating.joiner import JoinedUser, Joiner, ReadStations
from service.locating.live import Live
from service.locating.station_estimates import locate_fix
from service.locating.tracker import NOT_THIS_TIME, LocatedTrack, Tracker, TrackUser
from service.locating.tracks import TrackName
from service.locating.user_reader import FEW, ONLY_TRACKS, UserReader
from service.locating.users import (
    Answer,
    HeardUser,
    LocatedUser,
    PlacedUser,
    ReadUser,
    StationUser,
    TrackedUser,
    answer_user,
)
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.tracing import span
from service.web.csi import check_shape
from service.web.media import Format, formats, read_body

Located = LocatedUser | StationUser | TrackedUser | JoinedUser

_NO_TRACKS = errors.NoTrajectoryArtifact("this service has no artifact for trajectories")


class Locator:
    def __init__(
        self,
        settings: Settings,
        cells: ServedCells,
        choice: ModelChoice,
        workers: Workers,
        metrics: Metrics,
        tracker: Tracker | None,
        joiner: Joiner,
        live: Live,
    ) -> None:
        self._settings = settings
        self._cells = cells
        self._choice = choice
        self._workers = workers
        self._metrics = metrics
        self._tracker = tracker
        self._joiner = joiner
        self._reader = UserReader(cells, choice, tracker, joiner, workers, settings.batch_limit)
        self._live = live

    async def locate(self, request: Request) -> Response:
        """Locates one user. Raises the user's `ServiceError`."""
        self._cells.engine.dispatcher.check_room("single")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        users = await self._reader.read_one(body, reads, received, stopwatch)
        located = await self._locate(users, request, received, "single")
        (result,) = _answer(located, received, stopwatch)
        if isinstance(result, ServiceError):
            self._count(users, [result], stopwatch)
            raise result
        with stopwatch.stage("encode"), span("encode"):
            response = writes.response(result.body)
        self._count(users, [result], stopwatch)
        return response

    async def locate_batch(self, request: Request) -> Response:
        """Locates many users. Each has a location or a problem of its own, in their order."""
        self._cells.engine.dispatcher.check_room("batch")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        users = await self._reader.read_batch(body, reads, received, stopwatch, request)
        located = await self._locate(users, request, received, "batch")
        if len(users) <= FEW:
            return self._answer_batch(users, located, received, stopwatch, writes)
        return await self._workers.run(self._answer_batch, users, located, received, stopwatch, writes)

    async def _receive(self, request: Request) -> tuple[Format, Format, bytes, Received]:
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        with span("receive"):
            body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        return reads, writes, body, received

    async def _locate(
        self, users: list[ReadUser | ReadStations | ServiceError], request: Request, received: Received, lane: Lane
    ) -> Sequence[Located | ServiceError]:
        """Users of several base stations are located by these together, users with a track by their track, all others,
        and tracks that cannot be, by one snapshot.
        """
        rest = [one for one in users if not isinstance(one, ReadStations)]
        if len(rest) == len(users):
            return await self._locate_by_one(rest, request, received, lane)
        several = [one for one in users if isinstance(one, ReadStations)]
        joined = iter(await self._joiner.locate(several, request, received, lane))
        others = iter(await self._locate_by_one(rest, request, received, lane) if rest else ())
        return [next(joined) if isinstance(one, ReadStations) else next(others) for one in users]

    async def _locate_by_one(
        self, users: list[ReadUser | ServiceError], request: Request, received: Received, lane: Lane
    ) -> Sequence[LocatedUser | StationUser | TrackedUser | ServiceError]:
        """Users with a track are located by their track, all others, and tracks that cannot be, by one snapshot."""
        if not any(map(_has_track, users)):
            return await self._compare(users, request, received, lane)
        tracked = await self._locate_tracks(users, request, received, lane)
        rest = iter(await self._compare([one for one in tracked if isinstance(one, ReadUser)], request, received, lane))
        return [_with_cause(one, next(rest)) if isinstance(one, ReadUser) else one for one in tracked]

    async def _locate_tracks(
        self, users: list[ReadUser | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[ReadUser | TrackedUser | ServiceError]:
        """Locates the users with a track. A user whose track cannot be located stays a `ReadUser` with a fallback."""
        owner = key_id_of(request)
        tracks = {i: track for i, one in enumerate(users) if (track := _track_of(one, owner, received)) is not None}
        found: Sequence[LocatedTrack | ServiceError] = [_NO_TRACKS] * len(tracks)
        if self._tracker is not None:
            found = await self._tracker.locate(list(tracks.values()), request, lane)
        located: list[ReadUser | TrackedUser | ServiceError] = [*users]
        for i, one in zip(tracks, found, strict=True):
            user = users[i]
            assert isinstance(user, ReadUser)
            located[i] = user._replace(fallback=one) if isinstance(one, ServiceError) else TrackedUser(user, one)
        return located

    async def _compare(
        self, users: list[ReadUser | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[LocatedUser | StationUser | ServiceError]:
        """Locates each user by one snapshot: by the fingerprints of the cell, or by the base station alone."""
        with span("cells"):
            cells = await self._choice.choose(_cells_needed(users, received))
        placed: list[PlacedUser | HeardUser | ServiceError]
        placed = map_results(users, lambda user: self._place(user, cells, lane))
        futures = [_ask(one, received, lane) for one in placed if not isinstance(one, ServiceError)]
        with span("model"):
            found = await await_or_disconnect(futures, request)
        estimates = iter(found)

        def take(one: Any) -> LocatedUser | StationUser:  # mypy takes the two kinds of placed users for any tuple
            return _take(one, next(estimates))

        return map_results(placed, take)

    def _place(self, user: ReadUser, cells: Mapping[str, Chosen | ServiceError], lane: Lane) -> PlacedUser | HeardUser:
        """Puts a user into the cell. Raises what does not fit between the two, or `Congested`."""
        request = user.request
        served = cells[request.cell_id]
        if isinstance(served, ServiceError):
            raise served
        if isinstance(served, Station):
            return _place_heard(user, served, lane)
        check_shape(user.csi, served.version.cell)
        fix = None
        if request.coarse_position is not None:
            fix = locate_coarsely(request.coarse_position, served.version, self._settings.position_margin_m)
        return PlacedUser(user, served, fix)

    def _answer_batch(
        self,
        users: list[ReadUser | ReadStations | ServiceError],
        located: Sequence[Located | ServiceError],
        received: Received,
        stopwatch: Stopwatch,
        writes: Format,
    ) -> Response:
        results = _answer(located, received, stopwatch)
        with stopwatch.stage("encode"), span("encode"):
            response = writes.response(describe_batch(results))
        self._count(users, results, stopwatch)
        return response

    def _count(
        self,
        users: list[ReadUser | ReadStations | ServiceError],
        results: list[Answer | ServiceError],
        stopwatch: Stopwatch,
    ) -> None:
        self._live.note([one.body for one in results if isinstance(one, Answer)])
        self._metrics.stages(stopwatch)
        self._metrics.locations.note(map(_cell_of, users), results)


def _answer(
    located: Sequence[Located | ServiceError], received: Received, stopwatch: Stopwatch
) -> list[Answer | ServiceError]:
    with stopwatch.stage("encode"):
        return map_results(located, partial(answer_user, received.at))


def _cell_of(one: ReadUser | ReadStations | ServiceError) -> str | None:
    return None if isinstance(one, ServiceError) else one.request.cell_id


def _has_track(one: ReadUser | ServiceError) -> bool:
    return isinstance(one, ReadUser) and one.request.track_id is not None


def _track_of(user: ReadUser | ServiceError, owner: str, received: Received) -> TrackUser | None:
    if isinstance(user, ServiceError) or user.request.track_id is None:
        return None
    request = user.request
    return TrackUser(
        TrackName(request.cell_id, owner, user.request.track_id),
        user.csi,
        received.at.timestamp(),
        request.timestamp,
        request.request_id,
        _deadline(user, received),
    )


def _with_cause(
    user: ReadUser, found: LocatedUser | StationUser | ServiceError
) -> LocatedUser | StationUser | ServiceError:
    """In a cell that locates tracks only, the answer says why the track could not be located."""
    if isinstance(found, ONLY_TRACKS) and isinstance(user.fallback, NOT_THIS_TIME):
        return user.fallback
    return found


def _cells_needed(users: Sequence[ReadUser | ServiceError], received: Received) -> dict[str, float]:
    """The cells of the users, and the latest deadline in each."""
    deadlines: dict[str, float] = {}
    for user in users:
        if isinstance(user, ReadUser):
            cell_id, deadline = user.request.cell_id, _deadline(user, received)
            deadlines[cell_id] = max(deadline, deadlines.get(cell_id, deadline))
    return deadlines


def _deadline(user: ReadUser, received: Received) -> float:
    limit = user.request.max_resp_time
    return math.inf if limit is None else received.monotonic + limit


def _place_heard(user: ReadUser, station: Station, lane: Lane) -> HeardUser:
    """Raises `CsiShapeMismatch`, `CoarsePositionIncorrect` or `Congested`."""
    cell, fix = station.cell, user.request.coarse_position
    check_shape(user.csi, cell.version.cell)
    if fix is not None:
        locate_fix(fix, cell.frame)
    station.engine.dispatcher.check_room(lane)
    return HeardUser(user, station)


def _ask(placed: PlacedUser | HeardUser, received: Received, lane: Lane) -> "asyncio.Future[Any]":
    deadline = _deadline(placed.user, received)
    if isinstance(placed, HeardUser):
        return placed.station.engine.dispatcher.locate(placed.for_estimator(), deadline, lane)
    return placed.served.engine.dispatcher.locate(placed.for_estimator(), deadline, lane)


def _take(
    placed: PlacedUser | HeardUser, estimate: Estimate | MeasuredUser | ServiceError
) -> LocatedUser | StationUser:
    if isinstance(estimate, ServiceError):
        raise estimate
    if isinstance(placed, HeardUser):
        assert isinstance(estimate, MeasuredUser)
        return StationUser(placed, estimate)
    assert isinstance(estimate, Estimate)
    return LocatedUser(placed, estimate)
