"""`POST /locate` and `/locate/batch`: the whole path of a request, top to bottom."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from service.auth.middleware import key_id_of
from service.cells.model_choice import ModelChoice
from service.cells.registry import ServedCells
from service.errors import ServiceError
from service.inference.admission import Lane
from service.inference.workers import Workers
from service.locating.answers import Answer, answer_user
from service.locating.batch import describe_batch, map_results
from service.locating.coarse_rung import CoarseRung
from service.locating.estimates import Located, Received
from service.locating.joiner import Joiner, ReadStations
from service.locating.ladder import Ladder
from service.locating.live import Live
from service.locating.recent_answers import RecentAnswers, name_answers
from service.locating.rungs import KnnRung, MateformerRung, StationRung, TrackRung
from service.locating.tracker import Tracker
from service.locating.user_reader import FEW, UserReader
from service.locating.users import (
    ReadUser,
)
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.tracing import span
from service.web.media import Format, formats, read_body


class Locator:
    def __init__(
        self,
        settings: Settings,
        cells: ServedCells,
        choice: ModelChoice,
        workers: Workers,
        metrics: Metrics,
        tracker: Tracker | None,
        by_fingerprints: MateformerRung,
        joiner: Joiner,
        live: Live,
        answers: RecentAnswers | None,
    ) -> None:
        """`answers` is None where the settings forbid to remember them."""
        self._settings = settings
        self._confidence = round(100 * settings.confidence)
        self._cells = cells
        self._workers = workers
        self._metrics = metrics
        self._joiner = joiner
        self._ladder = Ladder(
            TrackRung(tracker, cells),
            by_fingerprints,
            KnnRung(choice, settings.position_margin_m),
            StationRung(choice),
            CoarseRung(choice),
        )
        self._reader = UserReader(choice, joiner, workers, settings.batch_limit)
        self._live = live
        self._answers = answers

    async def locate(self, request: Request) -> Response:
        """Locates one user. Raises the user's `ServiceError`."""
        self._cells.engine.dispatcher.check_room("single")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        users = await self._reader.read_one(body, reads, received, stopwatch)
        located = await self._locate(users, request, received, "single")
        (result,) = self._answer(located, received, stopwatch)
        if isinstance(result, ServiceError):
            self._count(users, [result], request, stopwatch)
            raise result
        with stopwatch.stage("encode"), span("encode"):
            response = writes.response(result.body)
        self._count(users, [result], request, stopwatch)
        return response

    async def locate_batch(self, request: Request) -> Response:
        """Locates many users. Each has a location or a problem of its own, in their order."""
        self._cells.engine.dispatcher.check_room("batch")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        users = await self._reader.read_batch(body, reads, received, stopwatch, request)
        located = await self._locate(users, request, received, "batch")
        if len(users) <= FEW:
            return self._answer_batch(users, located, request, received, stopwatch, writes)
        return await self._workers.run(self._answer_batch, users, located, request, received, stopwatch, writes)

    async def locate_users(
        self, users: Sequence[ReadUser | ServiceError], request: Request, received: Received
    ) -> list[Answer | ServiceError]:
        """The answers that `locate_batch` would give to users whom another route has read.

        They count for drift as other users do, but not in the metrics of locations. None is remembered.

        Raises `Congested` or `ClientGone`.
        """
        self._cells.engine.dispatcher.check_room("batch")
        return self._answer(await self._locate([*users], request, received, "batch"), received, Stopwatch())

    async def _receive(self, request: Request) -> tuple[Format, Format, bytes, Received]:
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        with span("receive"):
            body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        return reads, writes, body, received

    async def _locate(
        self, users: list[ReadUser | ReadStations | ServiceError], request: Request, received: Received, lane: Lane
    ) -> Sequence[Located | ServiceError]:
        """Users of several base stations are located by these together, all others by the ladder of methods."""
        rest = [one for one in users if not isinstance(one, ReadStations)]
        if len(rest) == len(users):
            return await self._ladder.locate(rest, request, received, lane)
        several = [one for one in users if isinstance(one, ReadStations)]
        joined = iter(await self._joiner.locate(several, request, received, lane))
        others = iter(await self._ladder.locate(rest, request, received, lane) if rest else ())
        return [next(joined) if isinstance(one, ReadStations) else next(others) for one in users]

    def _answer(
        self, located: Sequence[Located | ServiceError], received: Received, stopwatch: Stopwatch
    ) -> list[Answer | ServiceError]:
        with stopwatch.stage("encode"):
            return map_results(located, lambda one: answer_user(one, self._confidence, received.at))

    def _answer_batch(
        self,
        users: list[ReadUser | ReadStations | ServiceError],
        located: Sequence[Located | ServiceError],
        request: Request,
        received: Received,
        stopwatch: Stopwatch,
        writes: Format,
    ) -> Response:
        results = self._answer(located, received, stopwatch)
        with stopwatch.stage("encode"), span("encode"):
            response = writes.response(describe_batch(results))
        self._count(users, results, request, stopwatch)
        return response

    def _count(
        self,
        users: list[ReadUser | ReadStations | ServiceError],
        results: list[Answer | ServiceError],
        request: Request,
        stopwatch: Stopwatch,
    ) -> None:
        answers = [one for one in results if isinstance(one, Answer)]
        self._live.note(answers, key_id_of(request))
        if self._answers is not None and (named := name_answers(key_id_of(request), answers)):
            self._answers.note(named)
        self._metrics.stages(stopwatch)
        self._metrics.locations.note(map(_cell_of, users), results)


def _cell_of(one: ReadUser | ReadStations | ServiceError) -> str | None:
    return None if isinstance(one, ServiceError) else one.request.cell_id
