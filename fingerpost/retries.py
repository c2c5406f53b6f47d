"""When to ask again, and when to give up."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

# Whoever answers so says that nothing was done, and will be able to later.
_BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
# A connection that could not be made, or broke. Not a timeout: a service that is slow would be asked the more.
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
_FIRST_S = 0.1  # doubled with each try, where the service does not say
_SPREAD = 0.25  # of the wait, so that not all who were refused together come again together


class Attempts:
    """The tries at one request that does no harm when it is made twice, to locate somebody. Times in seconds."""

    def __init__(self, tries: int, longest_wait: float, chance: Callable[[], float] = random.random) -> None:
        self._left = tries
        self._longest = longest_wait
        self._chance = chance
        self._backoff = _FIRST_S

    def wait_after(self, outcome: httpx.Response | httpx.TransportError, now: datetime | None = None) -> float | None:
        """How long to wait before the next try; None: the outcome is final."""
        self._left -= 1
        again = outcome.status_code in _BUSY if isinstance(outcome, httpx.Response) else isinstance(outcome, _BROKEN)
        if not again or self._left <= 0:
            return None
        backoff, self._backoff = self._backoff, 2 * self._backoff
        told = None
        if isinstance(outcome, httpx.Response):
            told = _seconds(outcome.headers.get("retry-after", ""), now or datetime.now(UTC))
        wait = backoff if told is None else told
        return None if wait > self._longest else wait * (1 + _SPREAD * self._chance())


def _seconds(retry_after: str, now: datetime) -> float | None:
    """What a header `Retry-After` says, seconds or a date (RFC 9110); None where it says nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return None
