"""How long a queue may get before whoever comes is asked to come again."""

import time
from typing import Literal

from service.errors import Congested

Lane = Literal["single", "batch"]

_BURST_S = 0.05  # what is worked off sooner is a burst, and no harm
_PATIENCE: dict[Lane, float] = {"single": 1.0, "batch": 5.0}  # how much longer a batch may wait


class Admission:
    """Judges queues by how long their first has been waiting.

    In a burst that may be `longest_s` seconds. Once the network has had no rest for a while, a queue only adds to
    everybody's latency: its first may have waited `standing_s`, a few times that in the queue of batches. Encoding
    frames does not count as having no rest: it comes in bursts, where users enter new tiles.

    The owner thread tells, the event loop asks; each number is written whole.
    """

    def __init__(self, longest_s: float, standing_s: float) -> None:
        self._longest = longest_s
        self._standing = standing_s
        self._begun = 0.0  # time.monotonic when the network last had been idle, put off by encoding

    def check(self, lane: Lane, waited: float) -> None:
        """Raises `Congested` where nobody else should join a lane whose first has waited so many seconds."""
        lasting = time.monotonic() - self._begun > _BURST_S
        if waited > (_PATIENCE[lane] * self._standing if lasting else self._longest):
            raise Congested("too many users are waiting already")

    def begins(self) -> None:
        """The network was idle, and somebody came."""
        self._begun = time.monotonic()

    def encoded(self, seconds: float) -> None:
        """The network spent so long on encoding frames."""
        self._begun += seconds
