"""The routes of truths: operators say where users really were."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from fingerpost.wire_truths import TruthReport, TruthResult, TruthScore, TruthsRequest, TruthsResponse
from reference_db.contents import Contents
from reference_db.manifest import Manifest
from reference_db.truths import TruthCounts, TruthGroup
from reference_db.update import Update
from service import errors
from service.auth.middleware import key_id_of
from service.errors import ServiceError
from service.truths.coverage import describe_truths, since
from service.truths.scorer import JudgedTruth, TruthScorer, gather_fingerprints
from service.updates.change_request import STORE_ERRORS, Change, ChangeRequest, change_responses, require_cell
from service.updates.fingerprints import append_judged
from service.updates.history import find_current_version
from service.updates.parameters import UpdatesPublisher
from service.updates.publisher import Publisher
from service.updates.uploads import UploadRoute, takes_upload
from service.web.media import JSON, format_of, media_type_of, read_body
from service.web.parameters import DIGITS_ONLY, CellName
from service.web.problems import problem_of, problem_responses
from service.web.routes import ApiRoute

_MOST_DAYS = 3660
_TRUTH_ERRORS = (  # in the problem of an item
    errors.TruthOutsideCell,
    errors.TruthTooCoarse,
    errors.TruthIsFingerprint,
    errors.AnswerNotRemembered,
)

router = APIRouter(tags=["truths"], route_class=ApiRoute)
_uploads = APIRouter(route_class=UploadRoute)


def _get_scorer(request: Request) -> TruthScorer:
    scorer: TruthScorer = request.app.state.truth_scorer
    return scorer


@_uploads.post(
    "/cells/{cellId}/truths",
    response_model=TruthsResponse,
    responses=change_responses(
        errors.BatchTooLarge,
        errors.Congested,
        errors.AnswersUnavailable,
        *_TRUTH_ERRORS,
    ),
    summary="Score answers by surveyed truths",
)
@takes_upload(TruthsRequest)
async def score_truths(
    request: Request,
    change: Change,
    publisher: UpdatesPublisher,
    scorer: Annotated[TruthScorer, Depends(_get_scorer)],
    append: Annotated[
        Literal["proposed"] | None,
        Query(description="`proposed`: append the truths that would pay as fingerprints. Absent: change no version."),
    ] = None,
    key_id: Annotated[
        Annotated[str, Query(pattern="^[0-9a-f]{12}$")] | None,
        Query(alias="keyId", description="The public id of the API key that got the answers. Absent: this request's."),
    ] = None,
) -> Response:
    """Compares answers with where users really were. Each truth has a score or a problem of its own, in the order of
    the request.

    A truth with `csi` is located now, as `POST /locate` does it. The cell keeps counts and sums, no truth and no CSI.
    The answer names the truths that would pay as fingerprints. They become fingerprints only if the request says
    `append=proposed`, or if they are sent to `POST /cells/{cellId}/fingerprints`. `author`, `note`, `force` and the
    headers of changes are for that.
    """
    settings = request.app.state.settings
    reads = format_of(media_type_of(request))
    manifest = await publisher.read(find_current_version, publisher.store, change.cell_id)
    body = await read_body(request, settings.body_limit_bytes, settings.body_timeout_s)
    owner = key_id_of(request) if key_id is None else key_id
    judged = await scorer.score(body, reads, manifest, request, owner)
    proposed = [number for number, one in enumerate(judged) if isinstance(one, JudgedTruth) and one.reasons]
    version = None
    if append is not None and proposed:
        version = await _append([judged[number] for number in proposed], change, body, publisher)
    return JSON.response(
        TruthsResponse(
            results=[_describe(one) for one in judged],
            counted=sum(isinstance(one, JudgedTruth) and one.counted for one in judged),
            proposed=proposed,
            version=None if version is None else version.version,
        )
    )


@router.get(
    "/cells/{cellId}/truths",
    responses=problem_responses(errors.CellNotFound, errors.FieldIncorrect, errors.UnknownField, *STORE_ERRORS),
    summary="Show what truths say about a cell",
)
async def show_truths(
    cell_id: CellName,
    publisher: UpdatesPublisher,
    days: Annotated[
        int,
        Query(ge=1, le=_MOST_DAYS, description="Truths that were sent in the last so many days, today among them."),
        DIGITS_ONLY,
    ] = 90,
) -> TruthReport:
    """Whether the ellipses of answers hold surveyed truths as often as stated, the bias and the errors: together, by
    model family, by version of the cell and by day.
    """
    first = datetime.now(UTC).date() - timedelta(days=days - 1)

    def read() -> dict[TruthGroup, TruthCounts]:
        find_current_version(publisher.store, cell_id)  # raises CellNotFound
        return since(publisher.store.read_truths(cell_id), first)

    return describe_truths(cell_id, await publisher.read(read))


async def _append(
    judged: "list[JudgedTruth | ServiceError]", change: ChangeRequest, body: bytes, publisher: Publisher
) -> Manifest:
    origin = change.origin(sha256(change.head + body).hexdigest(), datetime.now(UTC))
    fingerprints = gather_fingerprints([one.read for one in judged if isinstance(one, JudgedTruth)])

    def append(before: Contents | None) -> Update:
        return append_judged(require_cell(before), fingerprints, origin, force=change.conditions.force)

    return (await publisher.publish(change.cell_id, append, change.conditions, origin)).manifest


def _describe(judged: JudgedTruth | ServiceError) -> TruthResult:
    if isinstance(judged, ServiceError):
        return TruthResult(problem=problem_of(judged))
    score, answer = judged.score, judged.score.answer
    return TruthResult(
        score=TruthScore(
            error=score.error,
            east=score.east,
            north=score.north,
            inside=score.inside,
            confidence=answer.confidence,
            h_accuracy=answer.semi_major,
            source=answer.source,
            cell_version=answer.cell_version,
            counted=judged.counted,
            reasons=judged.reasons,
        )
    )


router.include_router(_uploads)
