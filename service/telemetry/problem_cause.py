"""The cause of the problem that answers a request, for the metrics and the access log."""

from starlette.types import Scope

_KEY = "fingerpost.cause"


def note_cause(scope: Scope, cause: str) -> None:
    """Call when a problem is made for a request."""
    scope[_KEY] = cause


def find_cause(scope: Scope, status: int) -> str | None:
    """The cause of a request that has been answered with a status; None for an answer that is no problem.

    A problem without a cause comes from an exception that nothing foresaw: the outermost layer answers it.
    """
    cause: str | None = scope.get(_KEY)
    return "SYSTEM_FAILURE" if cause is None and status >= 500 else cause
