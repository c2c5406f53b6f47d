"""The threads that work on requests, so that the event loop never does."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import Congested

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
