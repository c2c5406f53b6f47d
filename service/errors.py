"""Everything that the service refuses or fails at on purpose; `problem` says what a client sees of each."""

from typing import NamedTuple


class InvalidParam(NamedTuple):
    """A field at fault, as a JSON pointer into the request, and what is wrong with it."""

    param: str
    reason: str


class ServiceError(Exception):
    """Base of all errors below. Its text goes to the client: no internals, no coordinates."""

    def __init__(self, detail: str, *invalid_params: InvalidParam) -> None:
        super().__init__(detail)
        self.detail = detail
        self.invalid_params = invalid_params

    @property
    def reason(self) -> str:
        """What is wrong, without the field that it is wrong with."""
        return self.invalid_params[0].reason if self.invalid_params else self.detail


class FieldError(ServiceError):
    """One field of the request is at fault; `param` is its JSON pointer."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}" if param else reason, InvalidParam(param, reason))


# The body as a whole
class MalformedBody(ServiceError): ...


class BodyTooLarge(ServiceError): ...


class BodyTooSlow(ServiceError): ...


class UnsupportedMediaType(ServiceError): ...


class NotAcceptable(ServiceError): ...


# Whoever sent it
class KeyMissing(ServiceError): ...


class KeyUnknown(ServiceError): ...


class ScopeMissing(ServiceError): ...


class RateExceeded(ServiceError):
    """In `retry_after` seconds the key may ask again."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


# Its fields
class FieldMissing(FieldError): ...


class FieldIncorrect(FieldError): ...


class UnknownField(FieldError): ...


class BatchTooLarge(FieldError): ...


# The CSI
class CsiNotBase64(FieldError): ...


class CsiLengthMismatch(FieldError): ...


class CsiShapeMismatch(FieldError): ...


class CsiNotFinite(FieldError): ...


class CsiAllZero(FieldError): ...


class CsiOutOfRange(FieldError): ...


# The coarse position
class CoarsePositionIncorrect(FieldError): ...


class CoarsePositionOutsideCell(FieldError): ...


# The cell
class CellNotFound(FieldError): ...


class CellTooSmall(FieldError):
    """The cell has fewer fingerprints than the network or its calibration needs."""


class CellNotServed(FieldError):
    """The cell's channel is not of the shape that the artifact was made for, or it has not learned the cell."""


class BandNotServed(FieldError):
    """The cell's carrier or bandwidth is none that the artifact was trained on."""


class ModelNotAllowed(FieldError):
    """The cell's own policy wants another network."""


class CellUnreadable(ServiceError): ...


# Trajectories and tracks
class NoTrajectoryArtifact(ServiceError): ...


class TrajectoryLength(FieldError): ...


class TrackTooShort(FieldError):
    """Too few of the user's snapshots are kept, or they were measured too long ago."""


class TrackTooWide(FieldError):
    """The user's snapshots, as located, were measured farther apart than the artifact allows."""


class TracksUnavailable(ServiceError):
    """Redis, where the users' last snapshots are kept, cannot be reached."""


# Operators' changes
class FingerprintsUnreadable(ServiceError): ...


class FingerprintRefused(FieldError): ...


class UpdateRefused(ServiceError):
    """The change cannot be made of the cell as it is."""


class VersionRefused(ServiceError):
    """The canary: users would be located far worse than before."""


class VersionNotFound(FieldError): ...


class PreconditionFailed(ServiceError):
    """The cell is not, or no longer, at the version that the change is meant for."""


class IdempotencyKeyReused(ServiceError): ...


class StoreDown(ServiceError):
    """The reference database cannot be reached; cells in memory go on serving."""


# Operators' choice of an artifact
class ArtifactNotFound(ServiceError): ...


class ArtifactRefused(ServiceError):
    """It is damaged, does not answer as it should, or cannot serve the cells that there are; the old one serves on."""


class ActivationInProgress(ServiceError):
    """One artifact at a time takes another one's place."""


class StorageFull(ServiceError):
    """There is no room for what was sent; all that is there goes on serving."""


# The console
class WatchingForbidden(ServiceError):
    """Nobody may watch where users are located."""


# The service itself
class InferenceFailed(ServiceError): ...


class EstimateNotFinite(ServiceError): ...


class OutOfMemory(ServiceError):
    """There is no memory for this request; others go on."""


class Congested(ServiceError): ...


class ClientGone(ServiceError): ...


class TooLate(ServiceError):
    """A request's own maxRespTime passed before it could be answered."""


class NotReady(ServiceError): ...


class Stopping(ServiceError):
    """Said by readiness alone: whatever else is asked is answered as ever."""
