"""Exchanges of HTTP requests and responses with the service, without any input or output.

A generator yields the requests to send, receives their outcomes and returns the result. `Client` and `AsyncClient`
run the same generators, each with its own HTTP client.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fingerpost.errors import NoAnswer, Refused
from fingerpost.retries import Retries
from fingerpost.wire import (
    CELL_HEADER,
    CELL_ID_PATTERN,
    BatchRequest,
    BatchResponse,
    LocateRequest,
    LocateResponse,
    Problem,
    StationsRequest,
)
from fingerpost.wire_measure import MeasureRequest, MeasureResponse
from fingerpost.wire_trajectory import TrajectoryRequest, TrajectoryResponse

_BATCH_SIZE = 256  # the service's default limit
_LONGEST_WAIT_S = 10.0


class Attempt(NamedTuple):
    """A POST request to send, after a pause of `pause_s` seconds."""

    path: str
    content: bytes
    headers: dict[str, str]
    pause_s: float


Response = TypeVar("Response", bound=BaseModel)
Result = TypeVar("Result")
Outcome: TypeAlias = httpx.Response | httpx.RequestError
Exchange: TypeAlias = Generator[Attempt, Outcome, Result]


def locate(request: LocateRequest | StationsRequest, tries: int) -> Exchange[LocateResponse]:
    """Locates one user."""
    return _post("/locate", request.cell_id, request, LocateResponse, tries)


def locate_trajectory(request: TrajectoryRequest, tries: int) -> Exchange[TrajectoryResponse]:
    """Locates several snapshots of one user together."""
    return _post("/locate/trajectory", request.cell_id, request, TrajectoryResponse, tries)


def measure(request: MeasureRequest, tries: int) -> Exchange[MeasureResponse]:
    """Measures one snapshot."""
    return _post("/measure", request.cell_id, request, MeasureResponse, tries)


def locate_batch(
    requests: Sequence[LocateRequest | StationsRequest], tries: int
) -> Exchange[list[LocateResponse | Problem]]:
    """Locates any number of users: one batch for each cell and each 256 users. Results are in the requests' order."""
    results: dict[int, LocateResponse | Problem] = {}
    for rows in _batches(requests):
        batch = BatchRequest(items=[requests[row] for row in rows])
        response = yield from _post("/locate/batch", requests[rows[0]].cell_id, batch, BatchResponse, tries)
        results.update(zip(rows, _unpack(response, len(rows)), strict=True))
    return [results[row] for row in range(len(requests))]


def _post(path: str, cell_id: str, body: BaseModel, expected: type[Response], tries: int) -> Exchange[Response]:
    headers = {"Content-Type": "application/json"}
    if re.fullmatch(CELL_ID_PATTERN, cell_id):
        headers[CELL_HEADER] = cell_id  # a load balancer sends the request to the replica that has the cell in memory
    content = body.model_dump_json().encode()
    retries, pause_s = Retries(tries, _LONGEST_WAIT_S), 0.0
    while True:
        outcome = yield Attempt(path, content, headers, pause_s)
        wait_s = retries.wait_after(outcome)
        if wait_s is None:
            return _read(outcome, expected)
        pause_s = wait_s


def _batches(requests: Sequence[LocateRequest | StationsRequest]) -> Iterator[list[int]]:
    """Row numbers of requests of one cell, `_BATCH_SIZE` at most."""
    by_cell: dict[str, list[int]] = {}
    for row, request in enumerate(requests):
        by_cell.setdefault(request.cell_id, []).append(row)
    for rows in by_cell.values():
        for first in range(0, len(rows), _BATCH_SIZE):
            yield rows[first : first + _BATCH_SIZE]


def _read(outcome: Outcome, expected: type[Response]) -> Response:
    """The body of a successful response. Raises `Refused` or `NoAnswer`."""
    if isinstance(outcome, httpx.RequestError):
        reason = str(outcome) or type(outcome).__name__
        raise NoAnswer(f"no answer from {outcome.request.url}: {reason}") from outcome
    try:
        if outcome.is_success:
            return expected.model_validate_json(outcome.content)
        problem = Problem.model_validate_json(outcome.content)
    except ValidationError as error:
        received = f"{outcome.status_code} {outcome.headers.get('content-type', 'without a content type')}"
        reason = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        raise NoAnswer(f"no answer from {outcome.request.url}, but {received}: {reason}") from error
    raise Refused(problem)


def _unpack(response: BatchResponse, users: int) -> list[LocateResponse | Problem]:
    found = [result.location if result.problem is None else result.problem for result in response.results]
    results = [result for result in found if result is not None]
    if len(results) != users:
        raise NoAnswer(f"{len(results)} results for {users} users")
    return results
