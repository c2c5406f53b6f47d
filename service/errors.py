"""Every error that the service raises on purpose, with the HTTP status and the cause that a client sees."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple, Self

_LONGEST_NAME = 100  # characters of a name from outside that messages and logs repeat
_LONGEST_TEXT = 1000  # characters of a message
_CHALLENGE = 'Bearer realm="fingerpost"'  # RFC 6750


def shorten_name(name: str) -> str:
    """A name from outside as messages and logs repeat it: at most 100 characters."""
    return _cut(name, _LONGEST_NAME)


class InvalidParam(NamedTuple):
    """A field at fault, as a JSON pointer into the request, and the reason."""

    param: str
    reason: str


class ServiceError(Exception):
    """Base class. `detail` goes to the client: it names no internals and no coordinates.

    Each kind of error is a class with a `status` and a `cause`. `retry_after_s` is set where the same request may
    succeed later. `headers` go into the response.
    """

    status: ClassVar[HTTPStatus]
    cause: ClassVar[str]
    retry_after_s: int | None = None

    def __init_subclass__(
        cls, status: HTTPStatus | None = None, cause: str | None = None, retry_after_s: int | None = None
    ) -> None:
        if status is not None and cause is not None:
            cls.status, cls.cause = status, cause
        if retry_after_s is not None:
            cls.retry_after_s = retry_after_s

    def __init__(self, detail: str, *invalid_params: InvalidParam) -> None:
        self.detail = _cut(detail, _LONGEST_TEXT)
        super().__init__(self.detail)
        self.invalid_params = invalid_params

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the same error, without its traceback."""
        return type(self).__new__, (type(self), *self.args), self.__dict__

    def __copy__(self) -> Self:
        """The same error without its traceback, which holds the request that raised it."""
        made = type(self).__new__(type(self), *self.args)
        made.__dict__.update(self.__dict__)
        return made

    def with_advice(self, advice: str) -> Self:
        """The same error whose detail ends with `advice`, however long the detail is."""
        made = self.__copy__()
        made.detail = f"{_cut(self.detail, _LONGEST_TEXT - len(advice) - 2)}; {advice}"
        made.args = (made.detail, *self.args[1:])
        return made

    @property
    def reason(self) -> str:
        """What is wrong, without the name of the field."""
        return self.invalid_params[0].reason if self.invalid_params else self.detail

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class FieldError(ServiceError):
    """One field of the request is at fault. `param` is its JSON pointer; each name in it is shortened."""

    def __init__(self, param: str, reason: str) -> None:
        param = "/".join(map(shorten_name, _cut(param, _LONGEST_TEXT).split("/")))
        reason = _cut(reason, _LONGEST_TEXT)
        super().__init__(f"{param}: {reason}" if param else reason, InvalidParam(param, reason))

    def under(self, pointer: str) -> Self:
        """The same error about a part of the body, whose JSON pointer this is."""
        ((param, reason),) = self.invalid_params
        return type(self)(f"{pointer}{param}", reason)


@contextmanager
def overridden_by_force(done: str = "publishes it anyway", kind: type[ServiceError] = ServiceError) -> Iterator[None]:
    """Lets refusals of a kind say what the option `--force` or the parameter `force` does."""
    try:
        yield
    except kind as error:
        raise error.with_advice(f"--force or force=true {done}") from error


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# The body as a whole
class MalformedBody(ServiceError, status=HTTPStatus.BAD_REQUEST, cause="INVALID_MSG_FORMAT"):
    """The body is not of the media type that it claims, or ended early."""


class BodyTooLarge(ServiceError, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, cause="BODY_TOO_LARGE"):
    """The body is longer than the limit."""


class BodyTooSlow(ServiceError, status=HTTPStatus.REQUEST_TIMEOUT, cause="BODY_TOO_SLOW"):
    """The body did not arrive in time."""


class TooManyBodies(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="TOO_MANY_BODIES", retry_after_s=1):
    """The bodies of other requests take all the memory that bodies may take."""


class UnsupportedMediaType(ServiceError, status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, cause="UNSUPPORTED_MEDIA_TYPE"):
    """The service does not read bodies of this media type, or compressed bodies."""


class NotAcceptable(ServiceError, status=HTTPStatus.NOT_ACCEPTABLE, cause="NOT_ACCEPTABLE"):
    """The service cannot answer in any media type that the client accepts."""


# Where the request comes from
class HostIncorrect(ServiceError, status=HTTPStatus.BAD_REQUEST, cause="HOST_INCORRECT"):
    """The request has no Host header, or more than one."""


class HostNotAllowed(ServiceError, status=HTTPStatus.MISDIRECTED_REQUEST, cause="HOST_NOT_ALLOWED"):
    """No keys are required, and the Host header is neither a loopback name nor an allowed one."""


class CrossOrigin(ServiceError, status=HTTPStatus.FORBIDDEN, cause="CROSS_ORIGIN"):
    """No keys are required, and a web page of another origin sent the request."""


# API keys
class KeyMissing(ServiceError, status=HTTPStatus.UNAUTHORIZED, cause="KEY_MISSING"):
    """The request carries no API key."""

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": _CHALLENGE}


class KeyUnknown(ServiceError, status=HTTPStatus.UNAUTHORIZED, cause="KEY_UNKNOWN"):
    """The API key is unknown or was revoked."""

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}


class ScopeMissing(ServiceError, status=HTTPStatus.FORBIDDEN, cause="SCOPE_MISSING"):
    """The API key lacks the scope of this route."""

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}


class RateExceeded(ServiceError, status=HTTPStatus.TOO_MANY_REQUESTS, cause="NF_CONGESTION_RISK"):
    """The API key exceeded its rate."""

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


# Fields of the body, the path and the query
class FieldMissing(FieldError, status=HTTPStatus.BAD_REQUEST, cause="MANDATORY_IE_MISSING"):
    """A required field is absent."""


class FieldIncorrect(FieldError, status=HTTPStatus.BAD_REQUEST, cause="MANDATORY_IE_INCORRECT"):
    """A field has a value that the schema does not allow."""


class UnknownField(FieldError, status=HTTPStatus.BAD_REQUEST, cause="UNKNOWN_FIELD"):
    """The request has a field or a parameter that the schema does not know."""


class BatchTooLarge(FieldError, status=HTTPStatus.BAD_REQUEST, cause="BATCH_TOO_LARGE"):
    """The batch has more items than the limit."""


# CSI
class CsiNotBase64(FieldError):
    """The CSI is not base64."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_NOT_BASE64"


class CsiLengthMismatch(FieldError, status=HTTPStatus.BAD_REQUEST, cause="CSI_LENGTH_MISMATCH"):
    """The number of CSI bytes does not fit the shape."""


class CsiShapeMismatch(FieldError, status=HTTPStatus.BAD_REQUEST, cause="CSI_SHAPE_MISMATCH"):
    """The CSI's shape is not the cell's."""


class CsiNotFinite(FieldError, status=HTTPStatus.BAD_REQUEST, cause="CSI_NOT_FINITE"):
    """The CSI contains NaN or infinity."""


class CsiAllZero(FieldError, status=HTTPStatus.BAD_REQUEST, cause="CSI_ALL_ZERO"):
    """The CSI is all zero."""


class CsiOutOfRange(FieldError, status=HTTPStatus.BAD_REQUEST, cause="CSI_OUT_OF_RANGE"):
    """The CSI's mean power is outside the range of float32, or its numbers are outside the range of complex32."""


class CsiLevelImplausible(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="CSI_LEVEL_IMPLAUSIBLE"):
    """The CSI is far stronger or weaker than the cell's fingerprints with a similar signal: another unit or gain."""


class CsiForeign(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="CSI_FOREIGN"):
    """The CSI is unlike that of the cell's own users: of another cell, in another order, or of a changed street.

    `belonging` is its p-value; `place` `(east, north)`, metres, is the first guess where the user is.
    """

    belonging = 0.0
    place = (0.0, 0.0)


class CsiHasNoSignal(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="CSI_HAS_NO_SIGNAL"):
    """The CSI holds noise alone, so that nothing can be measured."""


# The time of the measurement
class TimestampImplausible(FieldError, status=HTTPStatus.BAD_REQUEST, cause="TIMESTAMP_IMPLAUSIBLE"):
    """The CSI was measured in the future or before 2010: the clock or the unit is wrong."""


class LocationTooOld(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="LOCATION_TOO_OLD"):
    """The CSI was measured longer ago than the request's maxAge allows."""


# The shapes of the answer
class ShapesNotSupported(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="GAD_SHAPES_NOT_SUPPORTED"):
    """The request's supportedGADShapes name no shape that the service answers with."""


# The coarse position
class CoarsePositionIncorrect(FieldError, status=HTTPStatus.BAD_REQUEST, cause="COARSE_POSITION_INCORRECT"):
    """The coarse position is neither lat and lon, nor x and y."""


class CoarsePositionOutsideCell(
    FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="COARSE_POSITION_OUTSIDE_CELL"
):
    """The coarse position lies more than a kilometre outside the cell."""


# The cell
class CellNotFound(FieldError, status=HTTPStatus.NOT_FOUND, cause="CELL_NOT_FOUND"):
    """There is no cell of this name."""


class CellTooSmall(FieldError, status=HTTPStatus.CONFLICT, cause="CELL_TOO_SMALL"):
    """The cell has fewer fingerprints than the model or its calibration needs."""


class CellNotServed(FieldError, status=HTTPStatus.CONFLICT, cause="CELL_NOT_SERVED_BY_ARTIFACT"):
    """The artifact was not trained for the cell's array, height or CSI shape, or not in the cell."""


class BandNotServed(FieldError, status=HTTPStatus.CONFLICT, cause="BAND_NOT_SERVED_BY_ARTIFACT"):
    """The artifact was not trained for the cell's carrier frequency or bandwidth."""


class ModelNotAllowed(FieldError, status=HTTPStatus.CONFLICT, cause="MODEL_NOT_ALLOWED_BY_CELL"):
    """The cell's model policy excludes this model."""


class CellUnreadable(ServiceError, status=HTTPStatus.INTERNAL_SERVER_ERROR, cause="CELL_UNREADABLE"):
    """The cell's stored fingerprints are damaged."""


# The ladder of methods
class PositioningMethodFailure(
    ServiceError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="POSITIONING_METHOD_FAILURE"
):
    """No method that may answer located the user; `fallbacks` and `detail` say why each of them did not."""

    def __init__(self, detail: str, failures: Sequence[tuple[str, str]] = ()) -> None:
        """`failures`: methods, and the cause why each did not locate the user."""
        super().__init__(detail)
        self.failures = tuple(failures)


# Measurements
class NoMeasuringArtifact(ServiceError, status=HTTPStatus.NOT_IMPLEMENTED, cause="NO_MEASURING_ARTIFACT"):
    """The service has no artifact that measures snapshots."""


class TooManyStations(FieldError, status=HTTPStatus.BAD_REQUEST, cause="TOO_MANY_STATIONS"):
    """More base stations measured the user than the artifact joins."""


class StationsTooFar(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="STATIONS_TOO_FAR"):
    """The base stations lie too far apart to measure one user."""


# Trajectories and tracks
class NoTrajectoryArtifact(ServiceError, status=HTTPStatus.NOT_IMPLEMENTED, cause="NO_TRAJECTORY_ARTIFACT"):
    """The service has no artifact for trajectories."""


class TrajectoryLength(FieldError, status=HTTPStatus.BAD_REQUEST, cause="TRAJECTORY_LENGTH"):
    """The trajectory has another number of snapshots than the artifact takes."""


class TrackTooShort(FieldError, status=HTTPStatus.CONFLICT, cause="TRACK_TOO_SHORT"):
    """The service holds too few recent snapshots of this track."""


class TrackTooWide(FieldError, status=HTTPStatus.CONFLICT, cause="TRACK_TOO_WIDE"):
    """The track's snapshots lie farther apart than the artifact allows."""


class TracksUnavailable(
    ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="TRACKS_UNAVAILABLE", retry_after_s=1
):
    """Redis, which holds the tracks, cannot be reached."""


# Changes by operators
class FingerprintsUnreadable(ServiceError, status=HTTPStatus.BAD_REQUEST, cause="FINGERPRINTS_UNREADABLE"):
    """The fingerprint file cannot be read."""


class FingerprintRefused(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="FINGERPRINT_REFUSED"):
    """A fingerprint has an invalid value."""


class SurveyImplausible(ServiceError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="SURVEY_IMPLAUSIBLE"):
    """The fingerprints as a whole cannot be a survey: their positions, or the layout or content of their CSI."""


class UpdateRefused(ServiceError, status=HTTPStatus.CONFLICT, cause="UPDATE_REFUSED"):
    """The change does not apply to the cell as it is."""


class VersionRefused(ServiceError, status=HTTPStatus.CONFLICT, cause="VERSION_REFUSED"):
    """The canary found that users would be located far worse than before."""


class VersionNotFound(FieldError, status=HTTPStatus.NOT_FOUND, cause="VERSION_NOT_FOUND"):
    """The cell has no such version."""


class PreconditionFailed(ServiceError, status=HTTPStatus.PRECONDITION_FAILED, cause="PRECONDITION_FAILED"):
    """The cell is not at the version that the change is meant for."""


class ConditionMissing(ServiceError, status=HTTPStatus.PRECONDITION_REQUIRED, cause="CONDITION_MISSING"):
    """The request removes a whole cell, and says neither which version it means nor `force`."""


class IdempotencyKeyReused(ServiceError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="IDEMPOTENCY_KEY_REUSED"):
    """The idempotency key was used for another request."""


class StoreDown(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="STORE_UNAVAILABLE", retry_after_s=1):
    """The reference database cannot be reached. Cells in memory continue to serve."""


# Truths
class TruthOutsideCell(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="TRUTH_OUTSIDE_CELL"):
    """The surveyed position lies outside the cell."""


class TruthTooCoarse(FieldError, status=HTTPStatus.UNPROCESSABLE_ENTITY, cause="TRUTH_TOO_COARSE"):
    """The surveyed position may be wrong by more than the answer claims to be."""


class TruthIsFingerprint(FieldError, status=HTTPStatus.CONFLICT, cause="TRUTH_IS_FINGERPRINT"):
    """The cell has this CSI and position as a fingerprint, so that they cannot tell how others are located."""


class AnswerNotRemembered(FieldError, status=HTTPStatus.NOT_FOUND, cause="ANSWER_NOT_REMEMBERED"):
    """The service does not remember an answer with this requestId."""


class AnswersUnavailable(
    ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="ANSWERS_UNAVAILABLE", retry_after_s=1
):
    """The store of the last answers cannot be reached."""


# Artifacts
class ArtifactNotFound(ServiceError, status=HTTPStatus.NOT_FOUND, cause="ARTIFACT_NOT_FOUND"):
    """There is no artifact of this name."""


class ArtifactRefused(ServiceError, status=HTTPStatus.CONFLICT, cause="ARTIFACT_REFUSED"):
    """The artifact is damaged, fails its test inference, cannot serve a cell, is far worse, or was not compared."""


class ActivationInProgress(ServiceError, status=HTTPStatus.CONFLICT, cause="ACTIVATION_IN_PROGRESS"):
    """Another activation is in progress."""


class StorageFull(ServiceError, status=HTTPStatus.INSUFFICIENT_STORAGE, cause="STORAGE_FULL"):
    """There is no space left for the data sent. Everything stored continues to serve."""


# The console
class WatchingForbidden(ServiceError, status=HTTPStatus.FORBIDDEN, cause="WATCHING_FORBIDDEN"):
    """The settings forbid watching live estimates."""


# The service itself
class InferenceFailed(ServiceError, status=HTTPStatus.INTERNAL_SERVER_ERROR, cause="INFERENCE_FAILED"):
    """The model could not be run."""


class EstimateNotFinite(ServiceError, status=HTTPStatus.INTERNAL_SERVER_ERROR, cause="ESTIMATE_NOT_FINITE"):
    """The model returned no usable coordinates."""


class OutOfMemory(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="OUT_OF_MEMORY", retry_after_s=5):
    """There is not enough memory for this request."""


class ExaminerEnded(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="EXAMINER_ENDED", retry_after_s=5):
    """The process that examines versions of cells was killed or could not be started, so that nothing was changed."""


class Congested(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="NF_CONGESTION", retry_after_s=1):
    """Too many requests are waiting."""


class ClientGone(ServiceError, status=HTTPStatus.BAD_REQUEST, cause="CLIENT_GONE"):
    """The client closed the connection before the answer was ready."""


class TooLate(ServiceError, status=HTTPStatus.GATEWAY_TIMEOUT, cause="MAX_RESP_TIME_EXCEEDED"):
    """The request's maxRespTime passed before the answer was ready."""


class NotReady(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="NOT_READY", retry_after_s=1):
    """The service cannot locate users now."""


class Stopping(ServiceError, status=HTTPStatus.SERVICE_UNAVAILABLE, cause="DRAINING", retry_after_s=1):
    """The service is about to stop. Only readiness answers this; all other requests are served."""
