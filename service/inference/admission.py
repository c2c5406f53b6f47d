"""Decides when a queue is too long to accept another user."""

import math
import time
from typing import Literal

from service.errors import Congested

Lane = Literal["single", "batch"]
LANES: tuple[Lane, ...] = ("single", "batch")

_BURST_S = 0.05  # a busy period up to this long is a burst, not lasting load
_LIMIT_FACTOR: dict[Lane, float] = {"single": 1.0, "batch": 2.0}  # batches may wait longer
_SMOOTHING = 0.1  # weight of the newest dispatch in the average time a user
_DISPATCH_S = 0.016  # longest dispatch wanted while other users wait
_FEWEST_WAITING = 24  # single users: more would wait longer, fewer make small dispatches
_FEWEST = 16  # users a dispatch: smaller dispatches cost more a user


class Admission:
    """Refuses new users by how long the oldest user has waited and how long the new user would wait.

    During a burst the limit is `longest_s` seconds. When the model has been busy without a pause for longer than a
    burst, a long queue only adds to the latency of all users: the limit is then `standing_s`, and twice that for
    batches. Encoding frames counts neither as busy time nor as time a user: it comes in bursts, when users enter new
    tiles.

    Single users who were admitted during a burst that turns out to last would wait longest of all. They are refused as
    soon as new users are refused for lasting load. Users of batches are not: others of their batch may be located.

    The owner thread writes the measurements and the event loop reads them; each is a single number, so no lock is
    needed.
    """

    def __init__(self, longest_s: float, standing_s: float) -> None:
        self._longest = longest_s
        self._standing = standing_s
        self._busy_since = 0.0  # time.monotonic; moved forward by time spent encoding
        self._user_s = 0.0  # average time a user
        self._encoding_s = 0.0  # of the last dispatch, spent encoding
        self._overloaded = False  # lasting load, for which a user was refused

    def check(self, lane: Lane, waited: float, ahead: int) -> None:
        """Raises `Congested` when a lane accepts no more users.

        `waited`: seconds that the lane's oldest user has waited. `ahead`: users that come before the new one.
        """
        lasting = time.monotonic() - self._busy_since > _BURST_S
        limit = _LIMIT_FACTOR[lane] * self._standing_limit if lasting else self._longest
        if max(waited, ahead * self._user_s) > limit:
            self._overloaded = lasting
            raise Congested("too many users are waiting; try again later")

    @property
    def most_single(self) -> int:
        """How many single users may wait under lasting load: as many as are located while one of them may wait."""
        return max(_FEWEST_WAITING, int(self._standing_limit / self._user_s) if self._user_s else 0)

    def note_overload(self) -> None:
        """Call when a single user is refused for lasting load before `check` can be called."""
        self._overloaded = True

    @property
    def longest_single_wait(self) -> float:
        """A single user who has waited longer, in seconds, when a dispatch begins without them is to be refused."""
        return self._standing_limit if self._overloaded else math.inf

    @property
    def _standing_limit(self) -> float:
        """Seconds that single users may wait under lasting load.

        Longer while frames are encoded: the frames of the users who wait are then encoded at once.
        """
        return self._standing + min(self._encoding_s, self._standing)

    def start_busy_period(self) -> None:
        """Call when a user arrives while the model is idle."""
        self._busy_since, self._overloaded = time.monotonic(), False

    def record_dispatch(self, users: int, seconds: float, encoding: float) -> None:
        """Records the duration of a dispatch, of which `encoding` seconds were spent encoding frames."""
        self._busy_since += encoding
        self._encoding_s = encoding
        user_s = max(seconds - encoding, 0.0) / users
        self._user_s += (_SMOOTHING if self._user_s else 1.0) * (user_s - self._user_s)

    def dispatch_size(self, most: int) -> int:
        """How many users a dispatch should take, at most `most`, so that users who arrive during it wait briefly."""
        return most if self._user_s == 0.0 else min(most, max(_FEWEST, int(_DISPATCH_S / self._user_s)))
