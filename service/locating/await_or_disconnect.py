"""Waits for answers until the client disconnects."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from service.errors import ClientGone, OutOfMemory, ServiceError

A = TypeVar("A")

# Watching a connection costs more than most answers take: only requests that wait longer than this are watched.
_UNWATCHED_S = 0.02


async def await_or_disconnect(futures: "Sequence[asyncio.Future[A]]", request: Request) -> list[A | ServiceError]:
    """Waits for all futures and returns their results or errors in order; cancels all when the client disconnects.

    Raises `ClientGone`, and any error of a future that is neither `ServiceError` nor `MemoryError`.
    """
    watch = _Watch(futures, request)
    start = asyncio.get_running_loop().call_later(_UNWATCHED_S, watch.start)
    try:
        answers: list[A | ServiceError] = []
        for future in futures:
            answer = await _settle(future)
            answers.append(answer)
        return answers
    except asyncio.CancelledError:
        if watch.client_gone:
            raise ClientGone("the client has disconnected") from None
        raise
    finally:
        start.cancel()
        watch.stop()
        _cancel(futures)


class _Watch:
    """Cancels the futures as soon as the client disconnects."""

    def __init__(self, futures: "Sequence[asyncio.Future[Any]]", request: Request) -> None:
        self._futures = futures
        self._request = request
        self._task: asyncio.Task[None] | None = None
        self.client_gone = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        _cancel(self._futures)


def _cancel(futures: "Sequence[asyncio.Future[Any]]") -> None:
    for future in futures:
        future.cancel()  # has no effect on a future that is done


async def _settle(future: "asyncio.Future[A]") -> A | ServiceError:
    try:
        return await future
    except ServiceError as error:
        return error
    except MemoryError:
        return OutOfMemory("not enough memory to locate this user")
