"""Requests made from NumPy arrays."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from numpy.typing import ArrayLike

from fingerpost.csi import SNAPSHOT, encode_csi, to_complex64
from fingerpost.wire import CoarsePosition, LocateRequest, StationMeasurement, StationsRequest
from fingerpost.wire_measure import MeasureRequest
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest
from fingerpost.wire_truths import Truth


class QualityFields(TypedDict, total=False):
    """Further fields of all requests to locate a user; `QualityRequest` and `LocateRequest` describe them."""

    h_accuracy: float | None
    confidence: int | None
    supported_gad_shapes: list[str] | None
    max_age: float | None
    max_resp_time: float | None
    request_id: str | None


class LocateFields(QualityFields, total=False):
    """Further fields of `LocateRequest`."""

    timestamp: datetime | None
    allow_fallback: bool | None
    track_id: str | None


class MeasureFields(TypedDict, total=False):
    """Further fields of `MeasureRequest`."""

    confidence: int | None
    timestamp: datetime | None
    max_resp_time: float | None
    request_id: str | None


class TruthFields(TypedDict, total=False):
    """Further fields of `Truth`: where the user was, and what is known of it."""

    lat: float | None
    lon: float | None
    x: float | None
    y: float | None
    time: datetime | None
    coarse_position: CoarsePosition | None
    request_id: str | None


def build_locate_request(
    cell_id: str, csi: ArrayLike, coarse_position: CoarsePosition | None = None, **fields: Unpack[LocateFields]
) -> LocateRequest:
    """A request to locate one user.

    `csi` is complex `[antennas, subcarriers]`; `fields` are further fields of `LocateRequest`, such as `timestamp`.
    Raises `pydantic.ValidationError` if a field is wrong, and `ValueError` if `csi` has other dimensions, is
    real-valued, or has NaN or infinity.
    """
    return LocateRequest(cell_id=cell_id, csi=encode_csi(csi), coarse_position=coarse_position, **fields)


def build_stations_request(
    csi: Mapping[str, ArrayLike], timestamps: Mapping[str, datetime] | None = None, **fields: Unpack[QualityFields]
) -> StationsRequest:
    """A request to locate one user by what several base stations measured at the same moment.

    `csi` has the snapshot of each cell, complex `[antennas, subcarriers]`; the answer is in the frame of the first
    cell. `timestamps` are the times of measurement by cell, where known. `fields` are further fields of
    `StationsRequest`. Raises as `build_locate_request`.
    """
    measured = timestamps or {}
    measurements = [
        StationMeasurement(cell_id=cell_id, csi=encode_csi(one), timestamp=measured.get(cell_id))
        for cell_id, one in csi.items()
    ]
    return StationsRequest(measurements=measurements, **fields)


def build_trajectory_request(
    cell_id: str,
    csi: ArrayLike,
    path_features: Sequence[PathFeatures | None] | None = None,
    coarse_positions: Sequence[CoarsePosition | None] | None = None,
    timestamps: Sequence[datetime | None] | None = None,
    **fields: Unpack[QualityFields],
) -> TrajectoryRequest:
    """A request to locate several snapshots of one user together.

    `csi` is complex `[snapshots, antennas, subcarriers]`; `GET /models` tells how many snapshots a model takes and how
    near to each other they must be. The others have one element for each snapshot, None where it is not known:
    `path_features`, what the base station measured in addition to the CSI, and `coarse_positions`. The service uses the
    first in cells that its artifact for trajectories has learned, and the second in all others. `fields` are further
    fields of `TrajectoryRequest`. Raises as `build_locate_request`, and `ValueError` if there are not as many of
    something as snapshots.
    """
    several = to_complex64(csi, SNAPSHOT.replace("[", "[snapshots, "))
    lists = {"path features": path_features, "coarse positions": coarse_positions, "timestamps": timestamps}
    for name, values in lists.items():
        if values is not None and len(values) != len(several):
            raise ValueError(f"{len(values)} {name} for {len(several)} snapshots")
    snapshots = [
        Snapshot(
            csi=encode_csi(one),
            path_features=None if path_features is None else path_features[i],
            coarse_position=None if coarse_positions is None else coarse_positions[i],
            timestamp=None if timestamps is None else timestamps[i],
        )
        for i, one in enumerate(several)
    ]
    return TrajectoryRequest(cell_id=cell_id, snapshots=snapshots, **fields)


def build_measure_request(cell_id: str, csi: ArrayLike, **fields: Unpack[MeasureFields]) -> MeasureRequest:
    """A request to measure one snapshot.

    `csi` is complex `[antennas, subcarriers]`; `fields` are further fields of `MeasureRequest`, such as `timestamp`.
    Raises as `build_locate_request`.
    """
    return MeasureRequest(cell_id=cell_id, csi=encode_csi(csi), **fields)


def build_locate_body(cell_id: str, csi: ArrayLike, coarse_position: dict[str, float] | None = None) -> dict[str, Any]:
    """The JSON body of `POST /locate`, for programs with an HTTP client of their own.

    `csi` is complex `[antennas, subcarriers]`; `coarse_position` has the names of the JSON field: `lat`, `hAccuracy`.
    """
    request = build_locate_request(cell_id, csi)
    body = request.model_dump(mode="json")
    return body if coarse_position is None else body | {"coarsePosition": coarse_position}


def build_truth(sigma: float, csi: ArrayLike | None = None, **fields: Unpack[TruthFields]) -> Truth:
    """Where a user really was, for `CellClient.score_truths`.

    `sigma` is the 1-sigma error of this position on each axis, metres. `csi` is complex `[antennas, subcarriers]`;
    without it, `request_id` names an answer that the service remembers. `fields` are further fields of `Truth`, the
    position among them. Raises as `build_locate_request`.
    """
    return Truth(sigma=sigma, csi=None if csi is None else encode_csi(csi), **fields)
