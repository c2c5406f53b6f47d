"""Clients of the service: CSI as a NumPy array goes in, a typed estimate comes out.

with Client("http://127.0.0.1:8080", key="fp_...") as client:
    estimate = client.locate("cell", csi, CoarsePosition(lat=43.77, lon=11.25, h_accuracy=5.0))
    print(estimate.location_estimate.point, estimate.h_accuracy)
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from ssl import SSLContext
from typing import Any, Self, TypedDict

import httpx

from fingerpost import exchange
from fingerpost.errors import ClientError, NoAnswer
from fingerpost.exchange import Attempt, Exchange, Outcome, Result
from fingerpost.requests import (
    Array,
    build_locate_request,
    build_measure_request,
    build_stations_request,
    build_trajectory_request,
)
from fingerpost.wire import CoarsePosition, LocateRequest, LocateResponse, Problem, StationsRequest
from fingerpost.wire_measure import MeasureResponse
from fingerpost.wire_trajectory import PathFeatures, TrajectoryResponse

_TIMEOUT_S = 60.0
_TRIES = 4


class Client:
    """A client of the service at `url`. It keeps its connections open; use it from one thread at a time.

    `key` is an API key; a service without keys needs none. If the service is busy (429, 503) or a connection breaks,
    the client sends the request again, `tries` times in all. It waits as long as `Retry-After` says, and gives up if
    that is more than 10 s. `verify` is as in httpx: False, or an `ssl.SSLContext` with a CA or a client certificate.

    All methods raise `Refused` if the service answers with an error, `NoAnswer` if it does not answer, and
    `pydantic.ValidationError` if a field of the request is wrong.
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
        self._http = httpx.Client(**_http_options(url, key, timeout_s, verify))

    def locate(
        self, cell_id: str, csi: Array, coarse_position: CoarsePosition | None = None, **fields: Any
    ) -> LocateResponse:
        """Locates one user. `csi` is complex `[antennas, subcarriers]`.

        `fields` are further fields of `LocateRequest`. With the same `track_id` in all requests about a user, the
        service locates each snapshot together with the user's last ones.
        """
        request = build_locate_request(cell_id, csi, coarse_position, **fields)
        return self._run(exchange.locate(request, self._tries))

    def locate_by_stations(
        self, csi: Mapping[str, Array], timestamps: Mapping[str, datetime] | None = None, **fields: Any
    ) -> LocateResponse:
        """Locates one user by the CSI of several cells, by their names; see `build_stations_request`."""
        request = build_stations_request(csi, timestamps, **fields)
        return self._run(exchange.locate(request, self._tries))

    def locate_trajectory(
        self, cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
    ) -> TrajectoryResponse:
        """Locates several snapshots of one user together; see `build_trajectory_request`."""
        request = build_trajectory_request(cell_id, csi, path_features, **fields)
        return self._run(exchange.locate_trajectory(request, self._tries))

    def measure(self, cell_id: str, csi: Array, **fields: Any) -> MeasureResponse:
        """Measures the first path of a snapshot: time of arrival, range, direction; see `build_measure_request`."""
        return self._run(exchange.measure(build_measure_request(cell_id, csi, **fields), self._tries))

    def locate_batch(self, requests: Sequence[LocateRequest | StationsRequest]) -> list[LocateResponse | Problem]:
        """Locates any number of users; see `build_locate_request` and `build_stations_request`.

        Results are in the requests' order.
        """
        return self._run(exchange.locate_batch(requests, self._tries))

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, running: Exchange[Result]) -> Result:
        try:
            attempt = next(running)
            while True:
                time.sleep(attempt.pause_s)
                attempt = running.send(self._send(attempt))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _send(self, attempt: Attempt) -> Outcome:
        try:
            return self._http.post(attempt.path, content=attempt.content, headers=attempt.headers)
        except httpx.RequestError as error:
            return error


class AsyncClient:
    """The same as `Client` for asyncio. Any number of requests may run at the same time."""

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
        self._http = httpx.AsyncClient(**_http_options(url, key, timeout_s, verify))

    async def locate(
        self, cell_id: str, csi: Array, coarse_position: CoarsePosition | None = None, **fields: Any
    ) -> LocateResponse:
        """The same as `Client.locate`."""
        request = build_locate_request(cell_id, csi, coarse_position, **fields)
        return await self._run(exchange.locate(request, self._tries))

    async def locate_by_stations(
        self, csi: Mapping[str, Array], timestamps: Mapping[str, datetime] | None = None, **fields: Any
    ) -> LocateResponse:
        """The same as `Client.locate_by_stations`."""
        request = build_stations_request(csi, timestamps, **fields)
        return await self._run(exchange.locate(request, self._tries))

    async def locate_trajectory(
        self, cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
    ) -> TrajectoryResponse:
        """The same as `Client.locate_trajectory`."""
        request = build_trajectory_request(cell_id, csi, path_features, **fields)
        return await self._run(exchange.locate_trajectory(request, self._tries))

    async def measure(self, cell_id: str, csi: Array, **fields: Any) -> MeasureResponse:
        """The same as `Client.measure`."""
        return await self._run(exchange.measure(build_measure_request(cell_id, csi, **fields), self._tries))

    async def locate_batch(self, requests: Sequence[LocateRequest | StationsRequest]) -> list[LocateResponse | Problem]:
        """The same as `Client.locate_batch`."""
        return await self._run(exchange.locate_batch(requests, self._tries))

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, running: Exchange[Result]) -> Result:
        try:
            attempt = next(running)
            while True:
                await asyncio.sleep(attempt.pause_s)
                attempt = running.send(await self._send(attempt))
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _send(self, attempt: Attempt) -> Outcome:
        try:
            return await self._http.post(attempt.path, content=attempt.content, headers=attempt.headers)
        except httpx.RequestError as error:
            return error


def authorization_headers(key: str | None) -> dict[str, str]:
    """The HTTP headers that carry an API key. Raises `ClientError`, which does not show the key."""
    if key is None:
        return {}
    if not re.fullmatch("[!-~]+", key.strip()):  # httpx would show the key in its error
        raise ClientError("the API key contains characters that are not allowed in keys")
    return {"Authorization": f"Bearer {key.strip()}"}


class _HttpOptions(TypedDict):
    base_url: httpx.URL
    headers: dict[str, str]
    timeout: float
    verify: SSLContext | bool


def _http_options(url: str, key: str | None, timeout_s: float, verify: SSLContext | bool) -> _HttpOptions:
    try:
        base_url = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise NoAnswer(f"no answer from {url!r}: {error}") from error
    return {"base_url": base_url, "headers": authorization_headers(key), "timeout": timeout_s, "verify": verify}
