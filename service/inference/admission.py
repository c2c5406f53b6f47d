"""How long a queue may get before whoever comes is asked to come again."""

import time
from typing import Literal

from service.errors import Congested

Lane = Literal["single", "batch"]
LANES: tuple[Lane, ...] = ("single", "batch")

_BURST_S = 0.05  # what is worked off sooner is a burst, and no harm
_PATIENCE: dict[Lane, float] = {"single": 1.0, "batch": 2.0}  # how much longer a batch may wait
_MEMORY = 0.1  # share of the newest dispatch in what a user is thought to take
_DISPATCH_S = 0.016  # one should take no longer while others wait
_FEWEST = 16  # users of a dispatch: fewer at once cost more each


class Admission:
    """Judges queues by how long their first has been waiting, and by how long their last will have to.

    In a burst that may be `longest_s` seconds. Once the network has had no rest for a while, a queue only adds to
    everybody's latency: it may take `standing_s`, a few times that in the queue of batches. Encoding frames does not
    count, neither as having no rest nor as what a user takes: it comes in bursts, where users enter new tiles.

    The owner thread tells, the event loop asks; each number is written whole.
    """

    def __init__(self, longest_s: float, standing_s: float) -> None:
        self._longest = longest_s
        self._standing = standing_s
        self._begun = 0.0  # time.monotonic when the network last had been idle, put off by encoding
        self._user_s = 0.0  # what a user takes

    def check(self, lane: Lane, waited: float, ahead: int) -> None:
        """Raises `Congested` where nobody should join a lane any more.

        Its first has waited so many seconds; `ahead` users come before whoever would join.
        """
        lasting = time.monotonic() - self._begun > _BURST_S
        limit = _PATIENCE[lane] * self._standing if lasting else self._longest
        if max(waited, ahead * self._user_s) > limit:
            raise Congested("too many users are waiting already")

    def begins(self) -> None:
        """The network was idle, and somebody came."""
        self._begun = time.monotonic()

    def located(self, users: int, seconds: float, encoding: float) -> None:
        """A dispatch took so long, of which `encoding` went to frames."""
        self._begun += encoding
        each = max(seconds - encoding, 0.0) / users
        self._user_s += (_MEMORY if self._user_s else 1.0) * (each - self._user_s)

    def share(self, most: int) -> int:
        """How many of `most` users a dispatch should take, so that whoever comes meanwhile does not wait long."""
        return most if self._user_s == 0.0 else min(most, max(_FEWEST, int(_DISPATCH_S / self._user_s)))
