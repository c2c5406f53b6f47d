"""How much a key may ask for in a while."""


class TokenBucket:
    """Fills at `rate` tokens a second up to a second's worth, at least one. A token is a request, or a user in one.

    What a request turns out to hold may put it into debt, which whoever comes next waits for. Seconds are those of
    `time.monotonic`.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token. Where there is none: in how many seconds there will be one."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0

    def charge(self, tokens: int) -> None:
        """Takes more tokens, whether they are there or not."""
        self._tokens -= tokens
