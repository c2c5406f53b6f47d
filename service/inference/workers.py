"""Threads, so that the event loop never works."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import Congested

# Of Linux's nice values not the last: a thread that never runs would keep the interpreter's lock when it has it.
_LAST = 10

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """`threads` threads with a bounded queue: beyond `limit` calls in work or waiting the next is refused."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = limit
        self._taken = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function` in one of the threads. Raises `Congested`, and what `function` raises."""
        if self._taken >= self._limit:
            raise Congested(f"{self._limit} requests are waiting already")
        self._taken += 1
        future = asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        future.add_done_callback(self._release)
        return await future

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _release(self, future: "asyncio.Future[T]") -> None:
        self._taken -= 1


def lower_thread_priority() -> None:
    """Lets every other thread go before the one that calls this, where threads have a priority of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, _LAST)
