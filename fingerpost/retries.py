"""When to repeat a request, and when to give up."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

_REFUSED = frozenset({httpx.codes.TOO_MANY_REQUESTS})  # the service did nothing
_BUSY = _REFUSED | {httpx.codes.SERVICE_UNAVAILABLE}  # nearly always nothing: the reference database may be half down
_NEVER_SENT: tuple[type[httpx.RequestError], ...] = (httpx.ConnectError, httpx.ConnectTimeout)
# No connection, or a broken one. A read timeout is no reason to repeat: that would load a slow service even more.
_BROKEN = (*_NEVER_SENT, httpx.NetworkError, httpx.RemoteProtocolError)
_FIRST_WAIT_S = 0.1  # doubled after each try, where the service names no time
_JITTER = 0.25  # share of the wait; clients that were refused together then return at different times


class Retries:
    """Counts the tries of one request and says how long to wait between them.

    `harmless` requests may be carried out twice: those that only read or locate, and changes with an idempotency key.
    Others are sent again only if the service has certainly not carried them out. `random_share` returns a number in
    [0, 1).
    """

    def __init__(
        self,
        tries: int,
        longest_wait_s: float,
        random_share: Callable[[], float] = random.random,
        *,
        harmless: bool = True,
    ) -> None:
        self._left = tries
        self._statuses = _BUSY if harmless else _REFUSED
        self._errors = _BROKEN if harmless else _NEVER_SENT
        self._longest_wait_s = longest_wait_s
        self._random_share = random_share
        self._backoff_s = _FIRST_WAIT_S

    def wait_after(self, outcome: httpx.Response | httpx.RequestError, now: datetime | None = None) -> float | None:
        """Seconds to wait before the next try; None if the outcome is final."""
        self._left -= 1
        if self._left <= 0 or not self._is_temporary(outcome):
            return None
        backoff_s, self._backoff_s = self._backoff_s, 2 * self._backoff_s
        asked_s = None
        if isinstance(outcome, httpx.Response):
            asked_s = _parse_retry_after(outcome.headers.get("retry-after", ""), now or datetime.now(UTC))
        wait_s = backoff_s if asked_s is None else asked_s
        return None if wait_s > self._longest_wait_s else wait_s * (1 + _JITTER * self._random_share())

    def _is_temporary(self, outcome: httpx.Response | httpx.RequestError) -> bool:
        if isinstance(outcome, httpx.Response):
            return outcome.status_code in self._statuses
        return isinstance(outcome, self._errors)


def _parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds from a header `Retry-After`, which holds seconds or a date (RFC 9110); None if it is neither."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None
