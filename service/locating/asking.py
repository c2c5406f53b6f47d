"""Asks the queue of a model about each user of a request."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.requests import Request

from service.errors import ServiceError
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.batch import map_results
from service.locating.estimates import Located, Received
from service.locating.users import ReadUser
from service.telemetry.tracing import span

P = TypeVar("P")
A = TypeVar("A")


async def ask_each(
    placed: Sequence[P | ServiceError],
    ask: "Callable[[P], asyncio.Future[A]]",
    take: Callable[[P, A], Located],
    request: Request,
    note: Callable[[P, A | ServiceError], None] | None = None,
) -> list[Located | ServiceError]:
    """What `take` makes of each user and the answer that `ask` queues the user for; users with an error keep it.
    `note` is told each answer first.

    Raises `ClientGone`.
    """
    futures = [ask(one) for one in placed if not isinstance(one, ServiceError)]
    with span("model"):
        answers = iter(await await_or_disconnect(futures, request) if futures else ())

    def take_next(one: P) -> Located:
        answer = next(answers)
        if note is not None:
            note(one, answer)
        if isinstance(answer, ServiceError):
            raise answer
        return take(one, answer)

    return map_results(placed, take_next)


def deadline_of(user: ReadUser, received: Received) -> float:
    """A moment of `time.monotonic`."""
    limit = user.request.max_resp_time
    return math.inf if limit is None else received.monotonic + limit


def deadlines_by_cell(users: Sequence[ReadUser], received: Received) -> dict[str, float]:
    """The cells of the users, and the latest deadline in each."""
    deadlines: dict[str, float] = {}
    for user in users:
        cell_id, deadline = user.request.cell_id, deadline_of(user, received)
        deadlines[cell_id] = max(deadline, deadlines.get(cell_id, deadline))
    return deadlines
