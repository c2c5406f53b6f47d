"""Errors as a client sees them: RFC 9457 problem details with 3GPP's ``cause`` and ``invalidParams``."""

import errno
import re
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import InvalidParameter, Problem
from service import errors
from service.errors import FieldError, InvalidParam, ServiceError
from service.telemetry.correlation import correlation_headers

PROBLEM_JSON = "application/problem+json"

KINDS: dict[type[ServiceError], tuple[HTTPStatus, str]] = {
    errors.MalformedBody: (HTTPStatus.BAD_REQUEST, "INVALID_MSG_FORMAT"),
    errors.BodyTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE"),
    errors.BodyTooSlow: (HTTPStatus.REQUEST_TIMEOUT, "BODY_TOO_SLOW"),
    errors.UnsupportedMediaType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
    errors.NotAcceptable: (HTTPStatus.NOT_ACCEPTABLE, "NOT_ACCEPTABLE"),
    errors.KeyMissing: (HTTPStatus.UNAUTHORIZED, "KEY_MISSING"),
    errors.KeyUnknown: (HTTPStatus.UNAUTHORIZED, "KEY_UNKNOWN"),
    errors.ScopeMissing: (HTTPStatus.FORBIDDEN, "SCOPE_MISSING"),
    errors.RateExceeded: (HTTPStatus.TOO_MANY_REQUESTS, "NF_CONGESTION_RISK"),
    errors.FieldMissing: (HTTPStatus.BAD_REQUEST, "MANDATORY_IE_MISSING"),
    errors.FieldIncorrect: (HTTPStatus.BAD_REQUEST, "MANDATORY_IE_INCORRECT"),
    errors.UnknownField: (HTTPStatus.BAD_REQUEST, "UNKNOWN_FIELD"),
    errors.BatchTooLarge: (HTTPStatus.BAD_REQUEST, "BATCH_TOO_LARGE"),
    errors.CsiNotBase64: (HTTPStatus.BAD_REQUEST, "CSI_NOT_BASE64"),
    errors.CsiLengthMismatch: (HTTPStatus.BAD_REQUEST, "CSI_LENGTH_MISMATCH"),
    errors.CsiShapeMismatch: (HTTPStatus.BAD_REQUEST, "CSI_SHAPE_MISMATCH"),
    errors.CsiNotFinite: (HTTPStatus.BAD_REQUEST, "CSI_NOT_FINITE"),
    errors.CsiAllZero: (HTTPStatus.BAD_REQUEST, "CSI_ALL_ZERO"),
    errors.CsiOutOfRange: (HTTPStatus.BAD_REQUEST, "CSI_OUT_OF_RANGE"),
    errors.CoarsePositionIncorrect: (HTTPStatus.BAD_REQUEST, "COARSE_POSITION_INCORRECT"),
    errors.CoarsePositionOutsideCell: (HTTPStatus.UNPROCESSABLE_ENTITY, "COARSE_POSITION_OUTSIDE_CELL"),
    errors.CellNotFound: (HTTPStatus.NOT_FOUND, "CELL_NOT_FOUND"),
    errors.CellTooSmall: (HTTPStatus.CONFLICT, "CELL_TOO_SMALL"),
    errors.CellNotServed: (HTTPStatus.CONFLICT, "CELL_NOT_SERVED_BY_ARTIFACT"),
    errors.BandNotServed: (HTTPStatus.CONFLICT, "BAND_NOT_SERVED_BY_ARTIFACT"),
    errors.ModelNotAllowed: (HTTPStatus.CONFLICT, "MODEL_NOT_ALLOWED_BY_CELL"),
    errors.NoTrajectoryArtifact: (HTTPStatus.NOT_IMPLEMENTED, "NO_TRAJECTORY_ARTIFACT"),
    errors.TrajectoryLength: (HTTPStatus.BAD_REQUEST, "TRAJECTORY_LENGTH"),
    errors.TrackTooShort: (HTTPStatus.CONFLICT, "TRACK_TOO_SHORT"),
    errors.TrackTooWide: (HTTPStatus.CONFLICT, "TRACK_TOO_WIDE"),
    errors.TracksUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "TRACKS_UNAVAILABLE"),
    errors.CellUnreadable: (HTTPStatus.INTERNAL_SERVER_ERROR, "CELL_UNREADABLE"),
    errors.FingerprintsUnreadable: (HTTPStatus.BAD_REQUEST, "FINGERPRINTS_UNREADABLE"),
    errors.FingerprintRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "FINGERPRINT_REFUSED"),
    errors.UpdateRefused: (HTTPStatus.CONFLICT, "UPDATE_REFUSED"),
    errors.VersionRefused: (HTTPStatus.CONFLICT, "VERSION_REFUSED"),
    errors.VersionNotFound: (HTTPStatus.NOT_FOUND, "VERSION_NOT_FOUND"),
    errors.PreconditionFailed: (HTTPStatus.PRECONDITION_FAILED, "PRECONDITION_FAILED"),
    errors.IdempotencyKeyReused: (HTTPStatus.UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
    errors.ArtifactNotFound: (HTTPStatus.NOT_FOUND, "ARTIFACT_NOT_FOUND"),
    errors.ArtifactRefused: (HTTPStatus.CONFLICT, "ARTIFACT_REFUSED"),
    errors.ActivationInProgress: (HTTPStatus.CONFLICT, "ACTIVATION_IN_PROGRESS"),
    errors.WatchingForbidden: (HTTPStatus.FORBIDDEN, "WATCHING_FORBIDDEN"),
    errors.StoreDown: (HTTPStatus.SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE"),
    errors.StorageFull: (HTTPStatus.INSUFFICIENT_STORAGE, "STORAGE_FULL"),
    errors.OutOfMemory: (HTTPStatus.SERVICE_UNAVAILABLE, "OUT_OF_MEMORY"),
    errors.InferenceFailed: (HTTPStatus.INTERNAL_SERVER_ERROR, "INFERENCE_FAILED"),
    errors.EstimateNotFinite: (HTTPStatus.INTERNAL_SERVER_ERROR, "ESTIMATE_NOT_FINITE"),
    errors.Congested: (HTTPStatus.SERVICE_UNAVAILABLE, "NF_CONGESTION"),
    errors.ClientGone: (HTTPStatus.BAD_REQUEST, "CLIENT_GONE"),
    errors.TooLate: (HTTPStatus.GATEWAY_TIMEOUT, "MAX_RESP_TIME_EXCEEDED"),
    errors.NotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "NOT_READY"),
    errors.Stopping: (HTTPStatus.SERVICE_UNAVAILABLE, "DRAINING"),
}

_CHALLENGE = 'Bearer realm="fingerpost"'  # RFC 6750

_HTTP_CAUSES = {404: "RESOURCE_URI_STRUCTURE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def cause_of(error: ServiceError) -> str:
    return KINDS[type(error)][1]


def problem_of(error: ServiceError) -> Problem:
    """The problem that a client is told for an error."""
    status, cause = KINDS[type(error)]
    return _problem(status, cause, error.detail, error.invalid_params)


def encoded_problem(status: HTTPStatus, cause: str, detail: str) -> bytes:
    """A problem of what never became a request."""
    return msgspec.json.encode(_problem(status, cause, detail))


def response_of(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type=PROBLEM_JSON)


def field_error(error: msgspec.ValidationError) -> FieldError:
    """Which field a schema violation is about, read out of msgspec's message."""
    message, _, path = str(error).partition(" - at `")
    pointer = _pointer(path.removesuffix("`"))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return errors.UnknownField(f"{pointer}/{found[1]}", "unknown field")
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        return errors.FieldMissing(f"{pointer}/{found[1]}", "required field is missing")
    if message.startswith("Invalid base64"):
        return errors.CsiNotBase64(pointer, "not base64")
    return errors.FieldIncorrect(pointer, message.replace("`", ""))


async def on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return response_of(problem_of(error), _headers_of(error))


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    cause = _HTTP_CAUSES.get(status, "UNSPECIFIED_MSG_FAILURE")
    return response_of(_problem(status, cause, f"{request.method} {request.url.path}"), dict(error.headers or {}))


EXPECTED = (ServiceError, HTTPException, MemoryError, OSError, RuntimeError)


async def on_expected_error(request: Request, error: Exception) -> Response:
    """Answers for one of `EXPECTED`; of an `OSError` or a `RuntimeError` only where memory is short, others go on.

    By those two Python tells of mapped memory, or of a thread's stack, that it does not get.
    """
    match error:
        case HTTPException():
            return await on_http_exception(request, error)
        case ServiceError():
            return await on_service_error(request, error)
        case MemoryError() | OSError(errno=errno.ENOMEM):
            scarce = True
        case _:
            scarce = "can't start new thread" in str(error)
    if not scarce:
        raise error
    return await on_service_error(request, errors.OutOfMemory("there is no memory for this request"))


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """What happened goes to the server's log; a client is only told that it is not its fault."""
    return response_of(
        _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "SYSTEM_FAILURE", "unexpected failure"), correlation_headers()
    )


def _headers_of(error: ServiceError) -> dict[str, str] | None:
    match error:
        # May be over when one asks again.
        case (
            errors.Congested() | errors.NotReady() | errors.Stopping() | errors.StoreDown() | errors.TracksUnavailable()
        ):
            return {"Retry-After": "1"}
        case errors.OutOfMemory():
            return {"Retry-After": "5"}
        case errors.RateExceeded():
            return {"Retry-After": str(error.retry_after)}
        case errors.KeyMissing():
            return {"WWW-Authenticate": _CHALLENGE}
        case errors.KeyUnknown():
            return {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}
        case errors.ScopeMissing():
            return {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}
    return None


def _problem(status: HTTPStatus, cause: str, detail: str, invalid_params: tuple[InvalidParam, ...] = ()) -> Problem:
    return Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        cause=cause,
        invalid_params=[InvalidParameter(param, reason) for param, reason in invalid_params] or msgspec.UNSET,
    )


def _pointer(path: str) -> str:
    """``$.csi.shape[0]`` as the JSON pointer ``/csi/shape/0``."""
    return re.sub(r"\[(\d+|\.\.\.)\]|\.", lambda found: f"/{found[1] or ''}", path.removeprefix("$"))
