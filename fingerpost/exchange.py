"""Exchanges of HTTP requests and responses with the service.

A generator yields the requests to send, receives their outcomes and returns the result. `Client` and `AsyncClient`
run the same generators, each with its own HTTP client.
"""

import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fingerpost.addresses import hide_credentials
from fingerpost.errors import NoAnswer, Refused
from fingerpost.retries import Retries
from fingerpost.wire import Problem

_LONGEST_WAIT_S = 10.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Attempt(NamedTuple):
    """A request to send, after a pause of `pause_s` seconds.

    `content` may be a file, which is sent in parts. `into` is a file to write the body of a successful response to.
    `harmless`: the request may be sent again although the service may have carried it out already. `slow`: the service
    may take minutes before it answers. `deadline_s`: for how long after this try starts
    an answer is of use.
    """

    method: str
    path: str
    params: Mapping[str, str] = _NOTHING
    headers: Mapping[str, str] = _NOTHING
    content: bytes | Path = b""
    into: Path | None = None
    harmless: bool = True
    slow: bool = False
    deadline_s: float = math.inf
    pause_s: float = 0.0


Response = TypeVar("Response", bound=BaseModel)
Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome: TypeAlias = httpx.Response | httpx.RequestError
Exchange: TypeAlias = Generator[Attempt, Outcome, Result]


class Page(NamedTuple, Generic[Item]):
    """Some of many items, and the exchange for the next page. None: this is the last one."""

    items: list[Item]
    rest: "Exchange[Page[Item]] | None"


def ask(attempt: Attempt, expected: type[Response]) -> Exchange[Response]:
    """Sends one request and reads its answer. Raises `Refused` or `NoAnswer`."""
    outcome = yield attempt
    return read_body(outcome, expected)


def read_body(outcome: Outcome, expected: type[Response]) -> Response:
    """The body of a successful response. Raises `Refused` or `NoAnswer`."""
    response = require_success(outcome)
    try:
        # A later version of the service may answer fields that this one does not know.
        return expected.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise _no_answer_of_this_api(response, error) from error


def require_success(outcome: Outcome) -> httpx.Response:
    """A successful response, whose body is not looked at. Raises `Refused` or `NoAnswer`."""
    if isinstance(outcome, httpx.RequestError):
        reason = str(outcome) or type(outcome).__name__
        raise NoAnswer(f"no answer from {hide_credentials(outcome.request.url)}: {reason}") from outcome
    if outcome.is_success:
        return outcome
    try:
        problem = Problem.model_validate_json(outcome.content, extra="ignore")
    except ValidationError as error:
        raise _no_answer_of_this_api(outcome, error) from error
    raise Refused(problem)


def with_retries(exchange: Exchange[Result], tries: int) -> Exchange[Result]:
    """The same exchange, where each request is sent up to `tries` times as long as its outcome may be temporary."""
    outcome: Outcome | None = None
    with closing(exchange):
        while True:
            try:
                attempt = next(exchange) if outcome is None else exchange.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = yield from _repeat(attempt, tries)


def _repeat(attempt: Attempt, tries: int) -> Exchange[Outcome]:
    first, started = attempt, time.monotonic()
    retries = Retries(tries, _LONGEST_WAIT_S, harmless=first.harmless)
    while True:
        outcome = yield attempt
        wait_s, passed_s = retries.wait_after(outcome), time.monotonic() - started
        if wait_s is None or passed_s + wait_s >= first.deadline_s:
            return outcome
        attempt = first._replace(pause_s=wait_s, deadline_s=first.deadline_s - passed_s - wait_s)


def _no_answer_of_this_api(response: httpx.Response, error: ValidationError) -> NoAnswer:
    received = f"{response.status_code} {response.headers.get('content-type', 'without a content type')}"
    reason = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
    return NoAnswer(f"no answer from {hide_credentials(response.request.url)}, but {received}: {reason}")
