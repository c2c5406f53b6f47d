"""Every error that the service raises on purpose, with the HTTP status and the cause that a client sees."""

from http import HTTPStatus
from typing import ClassVar, NamedTuple

_CHALLENGE = 'Bearer realm="fingerpost"'  # RFC 6750


class InvalidParam(NamedTuple):
    """A field at fault, as a JSON pointer into the request, and the reason."""

    param: str
    reason: str


class ServiceError(Exception):
    """Base class. `detail` goes to the client: it names no internals and no coordinates.

    `status` and `cause` belong to the class; `headers` go into the response. `retry_after_s` is set where the same
    request may succeed later.
    """

    status: ClassVar[HTTPStatus]
    cause: ClassVar[str]
    retry_after_s: int | None = None

    def __init__(self, detail: str, *invalid_params: InvalidParam) -> None:
        super().__init__(detail)
        self.detail = detail
        self.invalid_params = invalid_params

    @property
    def reason(self) -> str:
        """What is wrong, without the name of the field."""
        return self.invalid_params[0].reason if self.invalid_params else self.detail

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class FieldError(ServiceError):
    """One field of the request is at fault. `param` is its JSON pointer."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}" if param else reason, InvalidParam(param, reason))


# The body as a whole
class MalformedBody(ServiceError):
    """The body is not of the media type that it claims, or ended early."""

    status = HTTPStatus.BAD_REQUEST
    cause = "INVALID_MSG_FORMAT"


class BodyTooLarge(ServiceError):
    """The body is longer than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    cause = "BODY_TOO_LARGE"


class BodyTooSlow(ServiceError):
    """The body did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    cause = "BODY_TOO_SLOW"


class UnsupportedMediaType(ServiceError):
    """The service does not read bodies of this media type, or compressed bodies."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    cause = "UNSUPPORTED_MEDIA_TYPE"


class NotAcceptable(ServiceError):
    """The service cannot answer in any media type that the client accepts."""

    status = HTTPStatus.NOT_ACCEPTABLE
    cause = "NOT_ACCEPTABLE"


# API keys
class KeyMissing(ServiceError):
    """The request carries no API key."""

    status = HTTPStatus.UNAUTHORIZED
    cause = "KEY_MISSING"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": _CHALLENGE}


class KeyUnknown(ServiceError):
    """The API key is unknown or was revoked."""

    status = HTTPStatus.UNAUTHORIZED
    cause = "KEY_UNKNOWN"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}


class ScopeMissing(ServiceError):
    """The API key lacks the scope of this route."""

    status = HTTPStatus.FORBIDDEN
    cause = "SCOPE_MISSING"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}


class RateExceeded(ServiceError):
    """The API key exceeded its rate."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    cause = "NF_CONGESTION_RISK"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


# Fields of the body, the path and the query
class FieldMissing(FieldError):
    """A required field is absent."""

    status = HTTPStatus.BAD_REQUEST
    cause = "MANDATORY_IE_MISSING"


class FieldIncorrect(FieldError):
    """A field has a value that the schema does not allow."""

    status = HTTPStatus.BAD_REQUEST
    cause = "MANDATORY_IE_INCORRECT"


class UnknownField(FieldError):
    """The request has a field or a parameter that the schema does not know."""

    status = HTTPStatus.BAD_REQUEST
    cause = "UNKNOWN_FIELD"


class BatchTooLarge(FieldError):
    """The batch has more items than the limit."""

    status = HTTPStatus.BAD_REQUEST
    cause = "BATCH_TOO_LARGE"


# CSI
class CsiNotBase64(FieldError):
    """The CSI is not base64."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_NOT_BASE64"


class CsiLengthMismatch(FieldError):
    """The number of CSI bytes does not fit the shape."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_LENGTH_MISMATCH"


class CsiShapeMismatch(FieldError):
    """The CSI's shape is not the cell's."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_SHAPE_MISMATCH"


class CsiNotFinite(FieldError):
    """The CSI contains NaN or infinity."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_NOT_FINITE"


class CsiAllZero(FieldError):
    """The CSI is all zero."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_ALL_ZERO"


class CsiOutOfRange(FieldError):
    """The CSI's mean power is outside the range that float32 holds."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CSI_OUT_OF_RANGE"


# The coarse position
class CoarsePositionIncorrect(FieldError):
    """The coarse position is neither lat and lon, nor x and y."""

    status = HTTPStatus.BAD_REQUEST
    cause = "COARSE_POSITION_INCORRECT"


class CoarsePositionOutsideCell(FieldError):
    """The coarse position lies outside the cell."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    cause = "COARSE_POSITION_OUTSIDE_CELL"


# The cell
class CellNotFound(FieldError):
    """There is no cell of this name."""

    status = HTTPStatus.NOT_FOUND
    cause = "CELL_NOT_FOUND"


class CellTooSmall(FieldError):
    """The cell has fewer fingerprints than the model or its calibration needs."""

    status = HTTPStatus.CONFLICT
    cause = "CELL_TOO_SMALL"


class CellNotServed(FieldError):
    """The artifact was not made for the cell's channel, or was not trained in the cell."""

    status = HTTPStatus.CONFLICT
    cause = "CELL_NOT_SERVED_BY_ARTIFACT"


class BandNotServed(FieldError):
    """The artifact was not trained at the cell's carrier frequency or bandwidth."""

    status = HTTPStatus.CONFLICT
    cause = "BAND_NOT_SERVED_BY_ARTIFACT"


class ModelNotAllowed(FieldError):
    """The cell's model policy excludes this model."""

    status = HTTPStatus.CONFLICT
    cause = "MODEL_NOT_ALLOWED_BY_CELL"


class CellUnreadable(ServiceError):
    """The cell's stored fingerprints are damaged."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    cause = "CELL_UNREADABLE"


# Trajectories and tracks
class NoTrajectoryArtifact(ServiceError):
    """The service has no artifact for trajectories."""

    status = HTTPStatus.NOT_IMPLEMENTED
    cause = "NO_TRAJECTORY_ARTIFACT"


class TrajectoryLength(FieldError):
    """The trajectory has another number of snapshots than the artifact takes."""

    status = HTTPStatus.BAD_REQUEST
    cause = "TRAJECTORY_LENGTH"


class TrackTooShort(FieldError):
    """The service holds too few recent snapshots of this track."""

    status = HTTPStatus.CONFLICT
    cause = "TRACK_TOO_SHORT"


class TrackTooWide(FieldError):
    """The track's snapshots lie farther apart than the artifact allows."""

    status = HTTPStatus.CONFLICT
    cause = "TRACK_TOO_WIDE"


class TracksUnavailable(ServiceError):
    """Redis, which holds the tracks, cannot be reached."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "TRACKS_UNAVAILABLE"
    retry_after_s = 1


# Changes by operators
class FingerprintsUnreadable(ServiceError):
    """The fingerprint file cannot be read."""

    status = HTTPStatus.BAD_REQUEST
    cause = "FINGERPRINTS_UNREADABLE"


class FingerprintRefused(FieldError):
    """A fingerprint has an invalid value."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    cause = "FINGERPRINT_REFUSED"


class UpdateRefused(ServiceError):
    """The change does not apply to the cell as it is."""

    status = HTTPStatus.CONFLICT
    cause = "UPDATE_REFUSED"


class VersionRefused(ServiceError):
    """The canary found that users would be located far worse than before."""

    status = HTTPStatus.CONFLICT
    cause = "VERSION_REFUSED"


class VersionNotFound(FieldError):
    """The cell has no such version."""

    status = HTTPStatus.NOT_FOUND
    cause = "VERSION_NOT_FOUND"


class PreconditionFailed(ServiceError):
    """The cell is not at the version that the change is meant for."""

    status = HTTPStatus.PRECONDITION_FAILED
    cause = "PRECONDITION_FAILED"


class IdempotencyKeyReused(ServiceError):
    """The idempotency key was used for another request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    cause = "IDEMPOTENCY_KEY_REUSED"


class StoreDown(ServiceError):
    """The reference database cannot be reached. Cells in memory continue to serve."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "STORE_UNAVAILABLE"
    retry_after_s = 1


# Artifacts
class ArtifactNotFound(ServiceError):
    """There is no artifact of this name."""

    status = HTTPStatus.NOT_FOUND
    cause = "ARTIFACT_NOT_FOUND"


class ArtifactRefused(ServiceError):
    """The artifact is damaged, fails its test inference, or cannot serve the cells in memory."""

    status = HTTPStatus.CONFLICT
    cause = "ARTIFACT_REFUSED"


class ActivationInProgress(ServiceError):
    """Another activation is in progress."""

    status = HTTPStatus.CONFLICT
    cause = "ACTIVATION_IN_PROGRESS"


class StorageFull(ServiceError):
    """There is no space left for the data sent. Everything stored continues to serve."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    cause = "STORAGE_FULL"


# The console
class WatchingForbidden(ServiceError):
    """The settings forbid watching live estimates."""

    status = HTTPStatus.FORBIDDEN
    cause = "WATCHING_FORBIDDEN"


# The service itself
class InferenceFailed(ServiceError):
    """The model could not be run."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    cause = "INFERENCE_FAILED"


class EstimateNotFinite(ServiceError):
    """The model returned no usable coordinates."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    cause = "ESTIMATE_NOT_FINITE"


class OutOfMemory(ServiceError):
    """There is not enough memory for this request."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "OUT_OF_MEMORY"
    retry_after_s = 5


class Congested(ServiceError):
    """Too many requests are waiting."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "NF_CONGESTION"
    retry_after_s = 1


class ClientGone(ServiceError):
    """The client closed the connection before the answer was ready."""

    status = HTTPStatus.BAD_REQUEST
    cause = "CLIENT_GONE"


class TooLate(ServiceError):
    """The request's maxRespTime passed before the answer was ready."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    cause = "MAX_RESP_TIME_EXCEEDED"


class NotReady(ServiceError):
    """The service cannot locate users now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "NOT_READY"
    retry_after_s = 1


class Stopping(ServiceError):
    """The service is about to stop. Only readiness answers this; all other requests are served."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    cause = "DRAINING"
    retry_after_s = 1
