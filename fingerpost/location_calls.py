"""What a back end asks of the service: where users are."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias, Unpack

from numpy.typing import ArrayLike

from fingerpost.errors import NoAnswer
from fingerpost.exchange import Attempt, Exchange, Response, ask
from fingerpost.requests import (
    LocateFields,
    MeasureFields,
    QualityFields,
    build_locate_request,
    build_measure_request,
    build_stations_request,
    build_trajectory_request,
)
from fingerpost.wire import (
    CELL_HEADER,
    CELL_ID_PATTERN,
    BatchRequest,
    BatchResponse,
    CoarsePosition,
    LocateRequest,
    LocateResponse,
    Problem,
    StationsRequest,
)
from fingerpost.wire_measure import MeasureRequest, MeasureResponse
from fingerpost.wire_trajectory import PathFeatures, TrajectoryRequest, TrajectoryResponse

UserRequests: TypeAlias = Iterable[LocateRequest | StationsRequest]

# Below the service's default limits: 256 users and 16 MiB.
_BATCH_SIZE = 256
_BATCH_BYTES = 15 * 2**20


def locate(
    _: object,
    cell_id: str,
    csi: ArrayLike,
    coarse_position: CoarsePosition | None = None,
    **fields: Unpack[LocateFields],
) -> Exchange[LocateResponse]:
    """Locates one user. `csi` is complex `[antennas, subcarriers]`.

    `fields` are further fields of `LocateRequest`. With `max_resp_time` the client sends the request again only as long
    as an answer is of use. `Client.track` locates each snapshot together with the user's last ones.
    """
    request = build_locate_request(cell_id, csi, coarse_position, **fields)
    return ask_about_user("/locate", request, LocateResponse)


def locate_by_stations(
    _: object,
    csi: Mapping[str, ArrayLike],
    timestamps: Mapping[str, datetime] | None = None,
    **fields: Unpack[QualityFields],
) -> Exchange[LocateResponse]:
    """Locates one user by the CSI of several cells, by their names; see `build_stations_request`."""
    return ask_about_user("/locate", build_stations_request(csi, timestamps, **fields), LocateResponse)


def locate_trajectory(
    _: object,
    cell_id: str,
    csi: ArrayLike,
    path_features: Sequence[PathFeatures | None] | None = None,
    coarse_positions: Sequence[CoarsePosition | None] | None = None,
    timestamps: Sequence[datetime | None] | None = None,
    **fields: Unpack[QualityFields],
) -> Exchange[TrajectoryResponse]:
    """Locates several snapshots of one user together; see `build_trajectory_request`."""
    request = build_trajectory_request(cell_id, csi, path_features, coarse_positions, timestamps, **fields)
    return ask_about_user("/locate/trajectory", request, TrajectoryResponse)


def measure(_: object, cell_id: str, csi: ArrayLike, **fields: Unpack[MeasureFields]) -> Exchange[MeasureResponse]:
    """Measures the first path of a snapshot: time of arrival, range, direction; see `build_measure_request`."""
    return ask_about_user("/measure", build_measure_request(cell_id, csi, **fields), MeasureResponse)


def locate_batch(_: object, requests: UserRequests) -> Exchange[list[LocateResponse | Problem]]:
    """Locates any number of users; see `build_locate_request` and `build_stations_request`.

    Sends a batch for each cell and each 256 users, or fewer where their CSI is large: a batch has 15 MiB at most.
    Results are in the requests' order.
    """
    listed = list(requests)
    items = BatchRequest(items=listed).items if listed else []  # all of them are checked before one is sent
    results: dict[int, LocateResponse | Problem] = {}
    for batch in _batches(items):
        deadline_s = max(items[row].max_resp_time or math.inf for row in batch)
        content = b'{"items":[' + b",".join(batch.values()) + b"]}"
        attempt = _post("/locate/batch", items[next(iter(batch))].cell_id, content, deadline_s)
        response = yield from ask(attempt, BatchResponse)
        results.update(zip(batch, _unpack(response, len(batch)), strict=True))
    return [results[row] for row in range(len(items))]


def ask_about_user(
    path: str,
    request: LocateRequest | StationsRequest | TrajectoryRequest | MeasureRequest,
    expected: type[Response],
) -> Exchange[Response]:
    content = request.model_dump_json().encode()
    return ask(_post(path, request.cell_id, content, request.max_resp_time or math.inf), expected)


def _post(path: str, cell_id: str, content: bytes, deadline_s: float) -> Attempt:
    headers = {"Content-Type": "application/json"}
    if re.fullmatch(CELL_ID_PATTERN, cell_id):
        headers[CELL_HEADER] = cell_id  # a load balancer sends the request to the replica that has the cell in memory
    return Attempt("POST", path, headers=headers, content=content, deadline_s=deadline_s)


def _batches(requests: Sequence[LocateRequest | StationsRequest]) -> Iterator[dict[int, bytes]]:
    """Requests of one cell as JSON, by their row numbers. One that is too large for any batch is alone."""
    by_cell: dict[str, list[int]] = {}
    for row, request in enumerate(requests):
        by_cell.setdefault(request.cell_id, []).append(row)
    for rows in by_cell.values():
        batch: dict[int, bytes] = {}
        size = 0
        for row in rows:
            item = requests[row].model_dump_json().encode()
            if batch and (len(batch) == _BATCH_SIZE or size + len(item) > _BATCH_BYTES):
                yield batch
                batch, size = {}, 0
            batch[row] = item
            size += len(item) + 1  # the comma
        yield batch


def _unpack(response: BatchResponse, users: int) -> list[LocateResponse | Problem]:
    found = [result.location if result.problem is None else result.problem for result in response.results]
    results = [result for result in found if result is not None]
    if len(results) != users:
        raise NoAnswer(f"{len(results)} results for {users} users")
    return results
