"""Asking the service from Python: one call from CSI to a typed estimate.

    with Client("http://127.0.0.1:8080", key="fp_...") as client:
        estimate = client.locate("cell", csi, CoarsePosition(lat=43.77, lon=11.25, h_accuracy=5.0))
        print(estimate.location_estimate.point, estimate.h_accuracy)

Needs NumPy, httpx and pydantic alone.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from ssl import SSLContext
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from fingerpost.retries import Attempts
from fingerpost.wire import (
    CELL_HEADER,
    BatchRequest,
    BatchResponse,
    CoarsePosition,
    Csi,
    LocateRequest,
    LocateResponse,
    Problem,
)
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest, TrajectoryResponse
from reference_db.cell_id import CELL_ID_PATTERN

_JSON = "application/json"
_TIMEOUT_S = 60.0
_TRIES, _LONGEST_WAIT_S = 4, 10.0
_MOST = 256  # users a batch; what the service takes by default

Array = np.ndarray[Any, Any]
Outcome = httpx.Response | httpx.TransportError
T = TypeVar("T", bound=BaseModel)


class ClientError(Exception):
    """What was asked for did not come; the text is fit for a person."""


class NoAnswer(ClientError):
    """Nobody answered, or not in the service's words."""


class Refused(ClientError):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.cause}: {problem.detail}")
        self.problem = problem


class Client:
    """A service at `url`, asked with an API key where it wants one. Keeps its connections; for one thread at a time.

    Where the service is busy (429, 503) or a connection breaks it asks up to `tries` times, after as long as
    `Retry-After` says if that is no longer than 10 s. `verify`: how a service under TLS proves itself, and this client
    to it. Every method raises `Refused` or `NoAnswer`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        tries: int = _TRIES,
        timeout_s: float = _TIMEOUT_S,
        verify: SSLContext | bool = True,
    ) -> None:
        self._tries = tries
        self._http = httpx.Client(base_url=_checked(url), headers=headers_of(key), timeout=timeout_s, verify=verify)

    def locate(self, cell_id: str, csi: Array, coarse: CoarsePosition | None = None, **fields: Any) -> LocateResponse:
        """Where a user with CSI complex `[antennas, subcarriers]` is; `fields` are more of `LocateRequest`'s.

        With a `track_id` among them, the same for all of a user's snapshots, it is located together with the last ones.
        """
        request = _single(user_of(cell_id, csi, coarse, **fields))
        return _read(self._outcome(request), LocateResponse)

    def locate_trajectory(
        self, cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
    ) -> TrajectoryResponse:
        """Where each of a user's snapshots was measured; see `trajectory_of`."""
        request = _trajectory(trajectory_of(cell_id, csi, path_features, **fields))
        return _read(self._outcome(request), TrajectoryResponse)

    def locate_batch(self, users: Sequence[LocateRequest]) -> list[LocateResponse | Problem]:
        """Where each of any number of users is, or why not; see `user_of`."""
        found: dict[int, LocateResponse | Problem] = {}
        for rows in _batches(users):
            answer = _read(self._outcome(_batch([users[row] for row in rows])), BatchResponse)
            found.update(zip(rows, _results(answer, len(rows)), strict=True))
        return [found[row] for row in range(len(users))]

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outcome(self, request: dict[str, Any]) -> Outcome:
        attempts = Attempts(self._tries, _LONGEST_WAIT_S)
        while True:
            outcome: Outcome
            try:
                outcome = self._http.request(**request)
            except httpx.TransportError as error:
                outcome = error
            if (wait := attempts.wait_after(outcome)) is None:
                return outcome
            time.sleep(wait)


class AsyncClient:
    """As `Client`, for asyncio: any number of requests at a time."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        tries: int = _TRIES,
        timeout_s: float = _TIMEOUT_S,
        verify: SSLContext | bool = True,
    ) -> None:
        self._tries = tries
        self._http = httpx.AsyncClient(
            base_url=_checked(url), headers=headers_of(key), timeout=timeout_s, verify=verify
        )

    async def locate(
        self, cell_id: str, csi: Array, coarse: CoarsePosition | None = None, **fields: Any
    ) -> LocateResponse:
        """As `Client.locate`."""
        request = _single(user_of(cell_id, csi, coarse, **fields))
        return _read(await self._outcome(request), LocateResponse)

    async def locate_trajectory(
        self, cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
    ) -> TrajectoryResponse:
        """As `Client.locate_trajectory`."""
        request = _trajectory(trajectory_of(cell_id, csi, path_features, **fields))
        return _read(await self._outcome(request), TrajectoryResponse)

    async def locate_batch(self, users: Sequence[LocateRequest]) -> list[LocateResponse | Problem]:
        """As `Client.locate_batch`."""
        found: dict[int, LocateResponse | Problem] = {}
        for rows in _batches(users):
            answer = _read(await self._outcome(_batch([users[row] for row in rows])), BatchResponse)
            found.update(zip(rows, _results(answer, len(rows)), strict=True))
        return [found[row] for row in range(len(users))]

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _outcome(self, request: dict[str, Any]) -> Outcome:
        attempts = Attempts(self._tries, _LONGEST_WAIT_S)
        while True:
            outcome: Outcome
            try:
                outcome = await self._http.request(**request)
            except httpx.TransportError as error:
                outcome = error
            if (wait := attempts.wait_after(outcome)) is None:
                return outcome
            await asyncio.sleep(wait)


def headers_of(key: str | None) -> dict[str, str]:
    """What every request with an API key carries."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def user_of(cell_id: str, csi: Array, coarse: CoarsePosition | None = None, **fields: Any) -> LocateRequest:
    """A user with CSI complex `[antennas, subcarriers]`; `fields` are more of `LocateRequest`'s: `timestamp`, ..."""
    return LocateRequest(cell_id=cell_id, csi=_sent(csi), coarse_position=coarse, **fields)


def request_of(cell_id: str, csi: Array, coarse: dict[str, float] | None = None) -> dict[str, Any]:
    """A request's JSON values, for whoever sends them by other means; the coarse position as JSON has it."""
    request: dict[str, Any] = user_of(cell_id, csi).model_dump(mode="json")
    return request if coarse is None else request | {"coarsePosition": coarse}


def trajectory_of(
    cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
) -> TrajectoryRequest:
    """Snapshots of one user near each other, CSI complex `[vertices, antennas, subcarriers]`; `/models` says how many.

    `path_features` were measured beside each; `fields` are more of `TrajectoryRequest`'s.
    """
    sent: Sequence[PathFeatures | None] = [None] * len(csi) if path_features is None else path_features
    snapshots = [Snapshot(csi=_sent(one), path_features=measured) for one, measured in zip(csi, sent, strict=True)]
    return TrajectoryRequest(cell_id=cell_id, snapshots=snapshots, **fields)


def _sent(csi: Array) -> Csi:
    return Csi(encoding="complex64", shape=list(csi.shape), data=np.ascontiguousarray(csi, "<c8").tobytes())


def _checked(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise NoAnswer(f"no answer from {url!r}: {error}") from error


def _single(user: LocateRequest) -> dict[str, Any]:
    return _post("/locate", user, user.cell_id)


def _batch(users: list[LocateRequest]) -> dict[str, Any]:
    """Of users of one cell."""
    return _post("/locate/batch", BatchRequest(items=users), users[0].cell_id)


def _trajectory(trajectory: TrajectoryRequest) -> dict[str, Any]:
    return _post("/locate/trajectory", trajectory, trajectory.cell_id)


def _post(path: str, body: BaseModel, cell_id: str) -> dict[str, Any]:
    """The header lets a load balancer send the request to the replica that has the cell."""
    named = {CELL_HEADER: cell_id} if re.fullmatch(CELL_ID_PATTERN, cell_id) else {}
    headers = {"Content-Type": _JSON, **named}
    return {"method": "POST", "url": path, "content": body.model_dump_json().encode(), "headers": headers}


def _batches(users: Sequence[LocateRequest]) -> Iterator[list[int]]:
    """Rows of users of one cell, `_MOST` at a time."""
    by_cell: dict[str, list[int]] = {}
    for row, user in enumerate(users):
        by_cell.setdefault(user.cell_id, []).append(row)
    for rows in by_cell.values():
        for first in range(0, len(rows), _MOST):
            yield rows[first : first + _MOST]


def _read(outcome: Outcome, expected: type[T]) -> T:
    """Raises `Refused` or `NoAnswer`."""
    if isinstance(outcome, httpx.TransportError):
        reason = str(outcome) or type(outcome).__name__
        raise NoAnswer(f"no answer from {outcome.request.url}: {reason}") from outcome
    try:
        if outcome.is_success:
            return expected.model_validate_json(outcome.content)
        problem = Problem.model_validate_json(outcome.content)
    except ValidationError as error:
        said = f"{outcome.status_code} {outcome.headers.get('content-type', 'nothing')}"
        raise NoAnswer(f"no answer from {outcome.request.url}, but {said}: {error}") from error
    raise Refused(problem)


def _results(answer: BatchResponse, users: int) -> list[LocateResponse | Problem]:
    found = [one.problem if isinstance(one.problem, Problem) else one.location for one in answer.results]
    results = [one for one in found if one is not None]
    if len(results) != users:
        raise NoAnswer(f"{len(results)} results for {users} users")
    return results
