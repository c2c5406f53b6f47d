"""The one thread that may use a model, and how another thread takes its place for a moment."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.errors import InferenceFailed

P = ParamSpec("P")
T = TypeVar("T")


class OwnerThread:
    """Calls functions in one thread, in order. Between two calls another thread may take its place.

    `stopped`: what to say to those who come after `close`.
    """

    def __init__(self, name: str, stopped: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._turn = threading.Lock()  # held by the owner thread while it works, or by the thread in its place
        self._closed = False
        self._stopped = stopped

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls `function` in the owner thread, in order of submission. Raises `InferenceFailed` after `close`."""
        try:
            return self._executor.submit(self._call, partial(function, *args, **kwargs))
        except RuntimeError as error:
            raise InferenceFailed(self._stopped) from error

    def take(self) -> bool:
        """Puts the calling thread in the place of the owner thread until `give_back`; False where that is at work.

        Raises `InferenceFailed` after `close`.
        """
        if self._closed:
            raise InferenceFailed(self._stopped)
        return self._turn.acquire(blocking=False)

    def give_back(self) -> None:
        """Ends what `take` began."""
        self._turn.release()

    def close(self) -> None:
        """Cancels calls that have not started, and waits for the one that runs."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _call(self, function: Callable[[], T]) -> T:
        with self._turn:
            return function()
