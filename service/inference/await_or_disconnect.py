"""Waiting for answers only as long as somebody wants them."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request

from service.errors import ClientGone, OutOfMemory, ServiceError
from service.inference.dispatcher import Position

# To watch a connection costs more than most answers take: only whoever waits long is watched.
_UNWATCHED_S = 0.02


async def await_or_disconnect(
    futures: "Sequence[asyncio.Future[Position]]", request: Request
) -> list[Position | ServiceError]:
    """What the futures come to, in their order; all of them are cancelled when the client hangs up before.

    Raises `ClientGone`, and whatever a future raises that is neither `ServiceError` nor `MemoryError`.
    """
    watch = _Watch(futures, request)
    late = asyncio.get_running_loop().call_later(_UNWATCHED_S, watch.start)
    try:
        return [await _settled(future) for future in futures]
    except asyncio.CancelledError:
        if watch.client_gone:
            raise ClientGone("the client has hung up") from None
        raise
    finally:
        late.cancel()
        watch.stop()
        _give_up(futures)


class _Watch:
    """Gives the futures up as soon as the client does."""

    def __init__(self, futures: "Sequence[asyncio.Future[Position]]", request: Request) -> None:
        self._futures = futures
        self._request = request
        self._hung_up: asyncio.Task[None] | None = None
        self.client_gone = False

    def start(self) -> None:
        self._hung_up = asyncio.create_task(self._listen())

    def stop(self) -> None:
        if self._hung_up is not None:
            self._hung_up.cancel()

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        _give_up(self._futures)


def _give_up(futures: "Sequence[asyncio.Future[Position]]") -> None:
    for future in futures:
        future.cancel()  # does nothing to one that is done


async def _settled(future: "asyncio.Future[Position]") -> Position | ServiceError:
    try:
        return await future
    except ServiceError as error:
        return error
    except MemoryError:
        return OutOfMemory("there is no memory to locate this user")
