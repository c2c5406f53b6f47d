"""Threads for work that would block the event loop."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import ParamSpec, TypeVar

from service.errors import Congested

# Not the lowest priority (19): a thread that is never scheduled may hold the interpreter's lock meanwhile.
_NICE = 10

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """`threads` threads with a bounded queue: at most `limit` calls run or wait."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = limit
        self._taken = 0
        # All threads start now: later the system may refuse one, and the executor would keep the call anyway.
        started = Barrier(threads + 1)
        for _ in range(threads):
            self._executor.submit(started.wait)
        started.wait()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function` in one of the threads. Raises `Congested`, and what `function` raises."""
        if self._taken >= self._limit:
            raise Congested(f"{self._limit} requests are already waiting; try again later")
        future = asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        self._taken += 1  # only now: `submit` may raise
        future.add_done_callback(self._release)
        return await future

    def close(self) -> None:
        """Cancels calls that have not started, and waits for those that run."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _release(self, future: "asyncio.Future[T]") -> None:
        self._taken -= 1


def lower_thread_priority() -> None:
    """Lowers the priority of the calling thread. Linux only: elsewhere threads have no priority of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
