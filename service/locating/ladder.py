"""The ladder: the methods that may locate a user, the best first. Each takes the users whom those before it left."""

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request

from fingerpost.wire_provenance import Method
from service import errors
from service.errors import PositioningMethodFailure, ServiceError
from service.inference.admission import Lane
from service.locating.estimates import Located, Received
from service.locating.users import Failure, ReadUser

# The CSI itself is at fault: no method that reads it may answer.
OF_THE_CSI = errors.CsiLevelImplausible | errors.CsiForeign | errors.CsiHasNoSignal
# Why one method does not locate a user, so that another may. All other errors are answers: what is wrong with the
# request, or that the service cannot answer now.
_FALLS = (
    errors.CellTooSmall
    | errors.CellNotServed
    | errors.BandNotServed
    | errors.ModelNotAllowed
    | errors.NoMeasuringArtifact
    | errors.InferenceFailed
    | errors.EstimateNotFinite
    | OF_THE_CSI
)
# The same request may get an answer later: the client must see that.
_PASSING = (
    errors.TracksUnavailable
    | errors.Congested
    | errors.OutOfMemory
    | errors.ExaminerEnded
    | errors.InferenceFailed
    | errors.EstimateNotFinite
)


class Rung(Protocol):
    """One method."""

    @property
    def method(self) -> Method: ...

    def takes(self, user: ReadUser) -> bool:
        """Whether this method can be asked about a user at all."""

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> Sequence[Located | ServiceError]:
        """Where each user is, or why this method cannot tell. Raises `ClientGone`."""


class Ladder:
    def __init__(self, *rungs: Rung) -> None:
        self._rungs = rungs

    async def locate(
        self, users: Sequence[ReadUser | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        """Locates each user by the first method that can. Raises `ClientGone`."""
        found: list[ReadUser | Located | ServiceError] = [*users]
        for rung in self._rungs:
            left = {i: one for i, one in enumerate(found) if isinstance(one, ReadUser) and rung.takes(one)}
            if left:
                results = await rung.locate(list(left.values()), request, received, lane)
                for (i, user), one in zip(left.items(), results, strict=True):
                    found[i] = _descend(user, rung.method, one) if isinstance(one, ServiceError) else one
        return [_describe_failure(one) if isinstance(one, ReadUser) else one for one in found]


def _descend(user: ReadUser, method: Method, error: ServiceError) -> ReadUser | ServiceError:
    """The user for the next method, or the error that the user is answered."""
    if not isinstance(error, _FALLS) and method != "scadf-moe":  # no error of a track keeps the user from being located
        return error
    user = user._replace(failures=(*user.failures, Failure(method, error)))
    if user.request.allow_fallback is False and not isinstance(error, errors.ModelNotAllowed):
        return _describe_failure(user)
    return user


def _describe_failure(user: ReadUser) -> ServiceError:
    """The problem of a user whom no method has located."""
    failures = user.named_failures
    if all(isinstance(one.error, errors.ModelNotAllowed) for one in failures):
        return failures[0].error  # another kind of request would be answered
    for one in failures:
        if isinstance(one.error, OF_THE_CSI):
            return one.error
    for one in failures:
        if isinstance(one.error, _PASSING):
            return one.error
    reasons = [f"{method}: {error.cause}, {error.reason}" for method, error in failures]
    if user.request.allow_fallback is False:
        reasons.append("the request allows no fallback")
    elif user.request.coarse_position is None:
        reasons.append("the request has no coarse position")
    return PositioningMethodFailure("; ".join(reasons), [(method, error.cause) for method, error in failures])
