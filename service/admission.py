"""How long a queue may get before whoever comes is asked to come again."""

import time
from typing import Literal

from service.errors import Congested

Lane = Literal["single", "batch"]

_SMOOTHING = 0.2  # weight of the last dispatch in what a user takes
_BURST_S = 0.05  # of work: a queue that drains sooner is a burst, and no harm
_FEWEST = 16  # users in a dispatch, where so many wait: fewer cost the network more each


class Admission:
    """Judges queues by the work that stands in them.

    A burst may fill a queue up to `longest_s` seconds of work. A queue that does not drain only adds to everybody's
    latency: it may stand at `standing_s`. Work is measured as dispatches are done. To encode a frame is work of
    another kind: it comes in bursts, where users enter new tiles, and counts against `longest_s` only.

    The owner thread tells, the event loop asks; each number is written whole.
    """

    def __init__(self, longest_s: float, standing_s: float) -> None:
        self._longest = longest_s
        self._standing = standing_s
        self._pace = 0.0  # seconds a user takes, beside encoding
        self._encoding = 0.0  # seconds of that a user
        self._drained: dict[Lane, float] = {"single": 0.0, "batch": 0.0}  # time.monotonic, put off by encoding

    @property
    def most(self) -> int:
        """How many users a dispatch may take, so that those who come meanwhile need not wait long."""
        return max(_FEWEST, round(self._standing / self._pace)) if self._pace else _FEWEST

    def check(self, lane: Lane, waiting: int) -> None:
        """Raises `Congested` where there is no room in a lane for anybody behind those who are waiting."""
        if not waiting:
            self.drained(lane)
        elif waiting * (self._pace + self._encoding) > self._longest or (
            waiting * self._pace > self._standing and time.monotonic() - self._drained[lane] > _BURST_S
        ):
            raise Congested("too many users are waiting already")

    def drained(self, lane: Lane) -> None:
        """Nobody is waiting in a lane."""
        self._drained[lane] = max(self._drained[lane], time.monotonic())

    def dispatched(self, users: int, seconds: float, encoding: float) -> None:
        """So many users took so many seconds, of which so many went into encoding frames."""
        self._pace = _smoothed(self._pace, (seconds - encoding) / users)
        self._encoding = _smoothed(self._encoding, encoding / users)
        for lane in self._drained:
            self._drained[lane] += encoding


def _smoothed(before: float, now: float) -> float:
    return before + _SMOOTHING * (now - before) if before else now
