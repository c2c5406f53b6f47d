"""Whether so many users arrive that refusing some of them must cost next to nothing."""

import asyncio
import math
from collections.abc import Callable

_BURST_S = 0.05  # a crowd up to this long is a burst, not lasting load
_APART_S = 0.02  # between two arrivals in a crowd; after a longer time it is another crowd


class Crowd:
    """Requests to locate one user that have arrived and that the app has not seen. For the event loop's thread.

    The queue before the model does not know of them. Under overload they are so many that the event loop has no time
    left to locate users if it lets the app refuse them one by one.
    """

    def __init__(self, room: Callable[[], int], note_refusal: Callable[[], None]) -> None:
        """`room`: how many more users may wait for the model under lasting load. Each refusal calls `note_refusal`."""
        self._room = room
        self._note_refusal = note_refusal
        self._arrived = 0
        self._since = self._last = -math.inf  # of the crowd; times of the event loop

    def refuses(self, now: float) -> bool:
        """Whether to refuse a request that arrives now."""
        if self._arrived < self._room():
            return False
        if now - self._last > _APART_S:
            self._since = now
        self._last = now
        if now - self._since <= _BURST_S:
            return False
        self._note_refusal()
        return True

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """A request has arrived whole: the app sees it at the loop's next turn."""
        self._arrived += 1
        loop.call_soon(self._leave)

    def _leave(self) -> None:
        self._arrived -= 1
