"""Clients of the service: CSI as a NumPy array goes in, a typed estimate comes out. And what operators ask of it.

with Client("http://127.0.0.1:8080", key="fp_...") as client:
    estimate = client.locate("cell", csi, CoarsePosition(lat=43.77, lon=11.25, h_accuracy=5.0))
    print(estimate.location_estimate.point, estimate.h_accuracy)
    client.cell("cell").append(Fingerprints(csi=csi, positions=positions), note="drive test")
"""

import re
from ssl import SSLContext
from typing import Self, TypedDict

import httpx

from fingerpost import location_calls, service_calls
from fingerpost.addresses import parse_address
from fingerpost.cell_client import AsyncCellClient, CellClient
from fingerpost.errors import ClientError
from fingerpost.running import AsyncRunner, BlockingRunner, asynchronous, blocking
from fingerpost.track import AsyncTrack, Track

_TIMEOUT_S = 60.0
_TRIES = 4
_SNAPSHOTS = 5  # of the shipped trajectory artifact
_WINDOW_S = 30.0  # as long as the service keeps tracks


class Client(BlockingRunner):
    """A client of the service at `url`. It keeps its connections open; use it from one thread at a time.

    `key` is an API key; a service without keys needs none. If the service is busy (429, 503) or a connection breaks,
    the client sends the request again, `tries` times in all. It waits as long as `Retry-After` says, and gives up if
    that is more than 10 s. Changes carry an `Idempotency-Key`, so that the service makes each of them once. `verify` is
    as in httpx: False, or an `ssl.SSLContext` with a CA or a client certificate.

    All methods raise `Refused` if the service answers with an error, `NoAnswer` if it does not answer, and
    `pydantic.ValidationError` or another `ValueError` if the request is wrong; then nothing is sent.
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
        super().__init__(httpx.Client(**_http_options(url, key, timeout_s, verify)), tries)

    locate = blocking(location_calls.locate)
    locate_by_stations = blocking(location_calls.locate_by_stations)
    locate_trajectory = blocking(location_calls.locate_trajectory)
    locate_batch = blocking(location_calls.locate_batch)
    measure = blocking(location_calls.measure)

    list_cells = blocking(service_calls.list_cells)
    collect_versions = blocking(service_calls.collect_versions)
    list_models = blocking(service_calls.list_models)
    activate_model = blocking(service_calls.activate_model)
    list_keys = blocking(service_calls.list_keys)
    check_live = blocking(service_calls.check_live)
    check_ready = blocking(service_calls.check_ready)
    show_latency = blocking(service_calls.show_latency)

    def track(self, cell_id: str, *, snapshots: int = _SNAPSHOTS, window_s: float = _WINDOW_S) -> Track:
        """Locates one user again and again, each time by the last `snapshots` together, of the last `window_s` seconds.

        The track remembers the snapshots, not the service. `GET /models` tells how many can be located together: the
        `vertices` of an artifact that has learned the street, or up to `tracks.snapshots` that are compared with
        fingerprints. Warns where the service takes no such number; each snapshot is then located alone.
        """
        return Track(self._http, self._tries, cell_id, snapshots, window_s)

    def cell(self, cell_id: str) -> CellClient:
        """The operators' requests about one cell. Sends nothing. Raises `ValueError` for what is no name of a cell."""
        return CellClient(self._http, self._tries, cell_id)

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(AsyncRunner):
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
        super().__init__(httpx.AsyncClient(**_http_options(url, key, timeout_s, verify)), tries)

    locate = asynchronous(location_calls.locate)
    locate_by_stations = asynchronous(location_calls.locate_by_stations)
    locate_trajectory = asynchronous(location_calls.locate_trajectory)
    locate_batch = asynchronous(location_calls.locate_batch)
    measure = asynchronous(location_calls.measure)

    list_cells = asynchronous(service_calls.list_cells)
    collect_versions = asynchronous(service_calls.collect_versions)
    list_models = asynchronous(service_calls.list_models)
    activate_model = asynchronous(service_calls.activate_model)
    list_keys = asynchronous(service_calls.list_keys)
    check_live = asynchronous(service_calls.check_live)
    check_ready = asynchronous(service_calls.check_ready)
    show_latency = asynchronous(service_calls.show_latency)

    def track(self, cell_id: str, *, snapshots: int = _SNAPSHOTS, window_s: float = _WINDOW_S) -> AsyncTrack:
        """The same as `Client.track`."""
        return AsyncTrack(self._http, self._tries, cell_id, snapshots, window_s)

    def cell(self, cell_id: str) -> AsyncCellClient:
        """The same as `Client.cell`."""
        return AsyncCellClient(self._http, self._tries, cell_id)

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


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
    return {
        "base_url": parse_address(url),
        "headers": authorization_headers(key),
        "timeout": timeout_s,
        "verify": verify,
    }
