"""Waiting for answers only as long as somebody wants them."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request

from service.dispatcher import Position
from service.errors import ClientGone, ServiceError

# To watch a connection costs more than most answers take: only whoever waits long is watched.
_UNWATCHED_S = 0.02


async def answers(futures: "Sequence[asyncio.Future[Position]]", request: Request) -> list[Position | ServiceError]:
    """What the futures come to, in their order; all of them are cancelled when the client hangs up before.

    Raises `ClientGone`, and whatever a future raises that is no `ServiceError`.
    """
    if futures:
        _, pending = await asyncio.wait(futures, timeout=_UNWATCHED_S)
        if pending:
            await _watched(asyncio.ensure_future(_hung_up(request)), asyncio.gather(*pending, return_exceptions=True))
    return [_settled(future) for future in futures]


async def _watched(hung_up: "asyncio.Future[None]", pending: "asyncio.Future[list[object]]") -> None:
    try:
        await asyncio.wait((hung_up, pending), return_when=asyncio.FIRST_COMPLETED)
        if not pending.done():
            raise ClientGone("the client has hung up")
    finally:
        hung_up.cancel()
        pending.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _settled(future: "asyncio.Future[Position]") -> Position | ServiceError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ServiceError):
        return error
    raise error
