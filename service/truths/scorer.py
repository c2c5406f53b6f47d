"""Scores truths: locates their users, or recalls what was answered, and counts what the truths say about it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from starlette.requests import Request

from fingerpost.wire_truths import Reason
from reference_db.cell_version import CellVersion
from reference_db.fingerprint_arrays import UNKNOWN_TIME
from reference_db.fingerprints import Fingerprints
from reference_db.half_csi import as_complex
from reference_db.manifest import Manifest
from reference_db.segment import Segment
from reference_db.truths import ScoredTruth, TruthGroup
from service import errors
from service.auth.middleware import charge
from service.cells.registry import ServedCells
from service.errors import ServiceError
from service.inference.workers import Workers
from service.locating.batch import map_results
from service.locating.estimates import Received
from service.locating.locator import Locator
from service.locating.recent_answers import AnswerName, GivenAnswer, RecentAnswers
from service.locating.tracks import digest
from service.settings import Settings
from service.telemetry.truth_metrics import TruthMetrics
from service.truths.proposals import Candidate, propose_fingerprints
from service.truths.reader import ReadTruth, TruthReader
from service.truths.scoring import Score, score_answer
from service.truths.watch import CoverageWatch
from service.updates.publisher import Publisher
from service.web.media import Format


class JudgedTruth(NamedTuple):
    """A truth with its score. `reasons`: why it would pay as a fingerprint; None: it would not."""

    read: ReadTruth
    score: Score
    counted: bool
    reasons: list[Reason] | None


class TruthScorer:
    """`answers` is None where the settings forbid to remember them. For the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        locator: Locator,
        served: ServedCells,
        publisher: Publisher,
        answers: RecentAnswers | None,
        workers: Workers,
        metrics: TruthMetrics,
        watch: CoverageWatch,
    ) -> None:
        self._settings = settings
        self._locator = locator
        self._served = served
        self._publisher = publisher
        self._answers = answers
        self._workers = workers
        self._metrics = metrics
        self._watch = watch

    async def score(
        self, body: bytes, reads: Format, manifest: Manifest, request: Request, owner: str
    ) -> list[JudgedTruth | ServiceError]:
        """What each truth of a body says about the answer to its user, or what is wrong with it, in their order.

        Counts the truths with the cell, and keeps nothing else of them. `owner` is the API key whose answers were
        given. Raises what `parse_items` raises, `Congested`, `ClientGone`, `AnswersUnavailable`, or what the store
        raises.
        """
        received = Received(datetime.now(UTC), time.monotonic())
        reader = TruthReader(manifest, self._settings.position_margin_m, self._settings.batch_limit)
        truths = await self._workers.run(reader.read, body, reads, received)
        charge(request, len(truths) - 1)
        cell_id = manifest.cell.cell_id
        located = iter(await self._locate(truths, request, received))
        recalled = iter(await self._recall(truths, cell_id, owner))
        given = map_results(truths, lambda one: _take(next(recalled if one.user is None else located)))
        version = self._served.held(cell_id)
        scores, reasons = await self._workers.run(_judge, truths, given, version)
        scored = [
            _name(read, score, why is not None, received.at)
            for read, score, why in zip(truths, scores, reasons, strict=True)
            if isinstance(read, ReadTruth) and isinstance(score, Score)
        ]
        counted = iter(await self._publisher.read(self._publisher.store.add_truths, cell_id, scored))
        judged: list[JudgedTruth | ServiceError] = []
        for read, score, why in zip(truths, scores, reasons, strict=True):
            if isinstance(score, ServiceError):
                judged.append(score)
            else:
                assert isinstance(read, ReadTruth)
                judged.append(JudgedTruth(read, score, next(counted), why))
        self._metrics.note(cell_id, map(_outcome, judged))
        if scored:
            await self._watch.look(cell_id)
        return judged

    async def _locate(
        self, truths: Sequence[ReadTruth | ServiceError], request: Request, received: Received
    ) -> list[GivenAnswer | ServiceError]:
        users = [one.user for one in truths if isinstance(one, ReadTruth) and one.user is not None]
        if not users:
            return []
        answers = await self._locator.locate_users(users, request, received)
        return [one if isinstance(one, ServiceError) else GivenAnswer.of(one) for one in answers]

    async def _recall(
        self, truths: Sequence[ReadTruth | ServiceError], cell_id: str, owner: str
    ) -> list[GivenAnswer | ServiceError]:
        names = [
            AnswerName(cell_id, owner, one.truth.request_id or "")
            for one in truths
            if isinstance(one, ReadTruth) and one.user is None
        ]
        if not names:
            return []
        if self._answers is None:
            why = "this service remembers no answers: FINGERPOST_ANSWER_TTL_S is 0"
            return [errors.AnswerNotRemembered("/requestId", why)] * len(names)
        why = "no answer of this cell and key with this requestId is remembered"
        return [
            errors.AnswerNotRemembered("/requestId", why) if one is None else one
            for one in await self._answers.find(names)
        ]


def gather_fingerprints(truths: Sequence[ReadTruth]) -> Fingerprints:
    """Truths with CSI as fingerprints, one at least. The shapes of their CSI are equal."""
    csi = np.stack([one.csi for one in truths if one.csi is not None])
    times = [UNKNOWN_TIME if one.truth.time is None else one.truth.time.timestamp() for one in truths]
    return Fingerprints(
        as_complex(csi),
        np.array([(one.east, one.north) for one in truths], np.float32),
        np.array(times, np.float64),
        np.array([one.truth.sigma for one in truths], np.float32),
    )


def _take(answer: GivenAnswer | ServiceError) -> GivenAnswer:
    if isinstance(answer, ServiceError):
        raise answer
    return answer


def _judge(
    truths: Sequence[ReadTruth | ServiceError],
    given: Sequence[GivenAnswer | ServiceError],
    version: CellVersion | None,
) -> tuple[list[Score | ServiceError], list[list[Reason] | None]]:
    """The score of each truth, and why it would pay as a fingerprint. Blocking."""
    known = set() if version is None else _find_known(truths, version)

    def score(number: int) -> Score:
        read, answer = truths[number], given[number]
        if isinstance(answer, ServiceError):
            raise answer
        assert isinstance(read, ReadTruth)
        if number in known:
            raise errors.TruthIsFingerprint("", "the cell has this CSI and position as a fingerprint")
        return score_answer(answer, read.east, read.north, read.truth.sigma)

    scores: list[Score | ServiceError] = map_results(range(len(truths)), score)
    candidates = [
        Candidate(read.east, read.north, read.truth.sigma, found)
        if isinstance(read, ReadTruth) and read.csi is not None and isinstance(found, Score)
        else None
        for read, found in zip(truths, scores, strict=True)
    ]
    return scores, propose_fingerprints(candidates, version)


def _find_known(truths: Sequence[ReadTruth | ServiceError], version: CellVersion) -> set[int]:
    """The numbers of the truths that the version has as fingerprints, with the same time and sigma."""
    numbers = [i for i, one in enumerate(truths) if isinstance(one, ReadTruth) and one.csi is not None]
    if not numbers:
        return set()
    rows = [one for one in truths if isinstance(one, ReadTruth) and one.csi is not None]
    found = np.isin(Segment.of(gather_fingerprints(rows)).ids, version.ids)
    return {number for number, is_known in zip(numbers, found.tolist(), strict=True) if is_known}


def _name(read: ReadTruth, score: Score, proposed: bool, now: datetime) -> ScoredTruth:
    """The truth as it is counted. Its name is a digest of the truth, of the fix, and of what scored it."""
    answer = score.answer
    group = TruthGroup(now.date().isoformat(), answer.source, answer.cell_version, answer.confidence)
    measured = read.truth.request_id.encode() if read.truth.request_id else b"" if read.csi is None else read.csi
    where = np.array((read.east, read.north), "<f4").tobytes()
    coarse = read.truth.coarse_position
    fix = "" if coarse is None else coarse.model_dump_json()
    parts = (bytes(measured), where, *(str(part).encode() for part in (fix, answer.artifact, *group[1:])))
    return ScoredTruth(digest(*parts).hex(), group, score.east, score.north, score.inside, proposed)


def _outcome(judged: JudgedTruth | ServiceError) -> str:
    if isinstance(judged, ServiceError):
        return "refused"
    if not judged.counted:
        return "repeated"
    return "inside" if judged.score.inside else "outside"
