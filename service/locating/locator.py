"""``POST /locate`` and ``/locate/batch``: a request's whole journey, top to bottom."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import LocateRequest, LocateResponse
from service import errors
from service.auth.middleware import charge
from service.cells.registry import ServedCells
from service.cells.served_cell import ServedCell
from service.errors import ServiceError
from service.inference.admission import Lane
from service.inference.await_or_disconnect import answers
from service.inference.dispatcher import Position
from service.inference.workers import Workers
from service.locating.batch_items import read_items
from service.locating.coarse_position import decode_coarse_position
from service.locating.csi import decode_csi
from service.locating.estimates import Received
from service.locating.live import Live
from service.locating.located import Draft, Located, Placed, Tracked, described
from service.locating.results import batch, each, single
from service.locating.tracker import FOR_NOW, Followed, OnTrack, Tracker
from service.settings import Settings
from service.telemetry.metrics import Metrics, Stopwatch
from service.telemetry.tracing import span
from service.web.media import Format, formats, read_body

_NO_TRACKS = errors.NoTrajectoryArtifact("no artifact for trajectories is configured")
_ONLY_TRACKS = errors.CellNotServed | errors.CellTooSmall | errors.ModelNotAllowed
_FEW = 32  # users: well under a millisecond of the event loop's time

P = ParamSpec("P")
A = TypeVar("A")


class Locator:
    def __init__(
        self,
        settings: Settings,
        cells: ServedCells,
        workers: Workers,
        metrics: Metrics,
        tracker: Tracker | None,
        live: Live,
    ) -> None:
        self._settings = settings
        self._cells = cells
        self._workers = workers
        self._metrics = metrics
        self._tracker = tracker
        self._live = live

    async def locate(self, request: Request) -> Response:
        """``POST /locate``: one user."""
        self._cells.engine.dispatcher.check_room("single")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        drafts = self._read([body], reads, stopwatch)
        located = await self._located(drafts, request, received, "single")
        (result,), encoded = self._write(drafts, located, received, stopwatch, writes, single)
        if isinstance(result, ServiceError):
            raise result
        return Response(encoded, media_type=writes.media_type)

    async def locate_batch(self, request: Request) -> Response:
        """``POST /locate/batch``: many users, each with a result or a problem of its own, in their order."""
        self._cells.engine.dispatcher.check_room("batch")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        items = self._items(body, reads, stopwatch)
        charge(request, len(items) - 1)
        drafts = await self._work(len(items), self._read, items, reads, stopwatch)
        located = await self._located(drafts, request, received, "batch")
        _, encoded = await self._work(len(items), self._write, drafts, located, received, stopwatch, writes, batch)
        return Response(encoded, media_type=writes.media_type)

    async def _receive(self, request: Request) -> tuple[Format, Format, bytes, Received]:
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        with span("receive"):
            body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        return reads, writes, body, received

    def _items(self, body: bytes, reads: Format, stopwatch: Stopwatch) -> list[msgspec.Raw]:
        with stopwatch.stage("decode"):
            return read_items(body, reads, self._settings.batch_limit)

    async def _work(self, users: int, function: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
        """Calls `function` in a thread of its own, unless for so few users that to hand it over would take longer."""
        if users <= _FEW:
            return function(*args, **kwargs)
        return await self._workers.run(function, *args, **kwargs)

    def _read(
        self, items: Sequence[bytes | msgspec.Raw], reads: Format, stopwatch: Stopwatch
    ) -> list[Draft | ServiceError]:
        with stopwatch.stage("decode"), span("decode"):
            return each(items, lambda item: _draft(reads.read(item, LocateRequest)))

    async def _located(
        self, drafts: list[Draft | ServiceError], request: Request, received: Received, lane: Lane
    ) -> Sequence[Located | Tracked | ServiceError]:
        if not any(map(_has_track, drafts)):
            return await self._compared(drafts, request, received, lane)
        followed = await self._followed(drafts, request, received, lane)
        rest = iter(await self._compared([one for one in followed if isinstance(one, Draft)], request, received, lane))
        return [_or_else(one, next(rest)) if isinstance(one, Draft) else one for one in followed]

    async def _followed(
        self, drafts: list[Draft | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[Draft | Tracked | ServiceError]:
        """Those with a track, located together with their last snapshots; drafts stay of whoever must do without."""
        users = {i: user for i, one in enumerate(drafts) if (user := _on_track(one, received)) is not None}
        found: Sequence[Followed | ServiceError] = [_NO_TRACKS] * len(users)
        if self._tracker is not None:
            found = await self._tracker.follow(list(users.values()), request, lane)
        followed: list[Draft | Tracked | ServiceError] = [*drafts]
        for i, one in zip(users, found, strict=True):
            draft = drafts[i]
            assert isinstance(draft, Draft)
            followed[i] = draft._replace(fallback=one) if isinstance(one, ServiceError) else Tracked(draft, one)
        return followed

    async def _compared(
        self, drafts: list[Draft | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        with span("cells"):
            cells = await self._cells.serve(draft.request.cell_id for draft in drafts if isinstance(draft, Draft))
        placed = each(drafts, lambda draft: self._place(draft, cells))
        asked = [one for one in placed if isinstance(one, Placed)]
        futures = [
            one.served.engine.dispatcher.locate(one.as_user(), _deadline(one.draft, received), lane) for one in asked
        ]
        with span("network"):
            positions = iter(await answers(futures, request))
        return each(placed, lambda one: Located(one, _found(next(positions))))

    def _write(
        self,
        drafts: list[Draft | ServiceError],
        located: Sequence[Located | Tracked | ServiceError],
        received: Received,
        stopwatch: Stopwatch,
        writes: Format,
        whole: Callable[[list[LocateResponse | ServiceError]], msgspec.Struct],
    ) -> tuple[list[LocateResponse | ServiceError], bytes]:
        with stopwatch.stage("encode"), span("encode"):
            results = each(located, partial(described, received.at))
            encoded = writes.encode(whole(results))
        self._live.note([one for one in results if isinstance(one, LocateResponse)])
        self._metrics.stages(stopwatch)
        self._metrics.locations.note(map(_cell_of, drafts), results)
        return results, encoded

    def _place(self, draft: Draft, cells: Mapping[str, ServedCell | ServiceError]) -> Placed:
        """Puts a draft into its cell; raises whatever is wrong with the two together."""
        request = draft.request
        served = cells[request.cell_id]
        if isinstance(served, ServiceError):
            raise served
        cell = served.version.cell
        if draft.csi.shape[:2] != (cell.antennas, cell.subcarriers):
            raise errors.CsiShapeMismatch(
                "/csi/shape", f"{request.csi.shape}, the cell's is {[cell.antennas, cell.subcarriers]}"
            )
        fix = None
        if request.coarse_position is not UNSET:
            fix = decode_coarse_position(request.coarse_position, served.version, self._settings.position_margin_m)
        return Placed(draft, served, fix, served.calibration.level(None if fix is None else fix.accuracy))


def _draft(request: LocateRequest) -> Draft:
    return Draft(request, decode_csi(request.csi))


def _cell_of(one: Draft | ServiceError) -> str | None:
    return one.request.cell_id if isinstance(one, Draft) else None


def _has_track(one: Draft | ServiceError) -> bool:
    return isinstance(one, Draft) and one.request.track_id is not UNSET


def _on_track(draft: Draft | ServiceError, received: Received) -> OnTrack | None:
    if isinstance(draft, ServiceError) or draft.request.track_id is UNSET:
        return None
    request = draft.request
    measured = received.at if request.timestamp is UNSET else request.timestamp
    deadline = _deadline(draft, received)
    return OnTrack(request.cell_id, draft.request.track_id, draft.csi, measured.timestamp(), deadline)


def _or_else(draft: Draft, found: Located | ServiceError) -> Located | ServiceError:
    """In a cell where only tracks can be located, what counts is why this one was not."""
    if isinstance(found, _ONLY_TRACKS) and isinstance(draft.fallback, FOR_NOW):
        return draft.fallback
    return found


def _deadline(draft: Draft, received: Received) -> float:
    limit = draft.request.max_resp_time
    return math.inf if limit is UNSET else received.monotonic + limit


def _found(answer: Position | ServiceError) -> Position:
    if isinstance(answer, ServiceError):
        raise answer
    return answer
