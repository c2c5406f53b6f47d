"""Requests made from NumPy arrays."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from fingerpost.wire import CoarsePosition, Csi, LocateRequest, StationMeasurement, StationsRequest
from fingerpost.wire_measure import MeasureRequest
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest

Array = np.ndarray[Any, Any]


def build_locate_request(
    cell_id: str, csi: Array, coarse_position: CoarsePosition | None = None, **fields: Any
) -> LocateRequest:
    """A request to locate one user.

    `csi` is complex `[antennas, subcarriers]`; `fields` are further fields of `LocateRequest`, such as `timestamp`.
    Raises `pydantic.ValidationError` if a field is wrong, and `ValueError` if `csi` has other dimensions.
    """
    return LocateRequest(cell_id=cell_id, csi=_encode_csi(csi), coarse_position=coarse_position, **fields)


def build_stations_request(
    csi: Mapping[str, Array], timestamps: Mapping[str, datetime] | None = None, **fields: Any
) -> StationsRequest:
    """A request to locate one user by what several base stations measured at the same moment.

    `csi` has the snapshot of each cell, complex `[antennas, subcarriers]`; the answer is in the frame of the first
    cell. `timestamps` are the times of measurement by cell, where known. `fields` are further fields of
    `StationsRequest`. Raises `pydantic.ValidationError` if a field is wrong, and `ValueError` if CSI has other
    dimensions.
    """
    measured = timestamps or {}
    measurements = [
        StationMeasurement(cell_id=cell_id, csi=_encode_csi(one), timestamp=measured.get(cell_id))
        for cell_id, one in csi.items()
    ]
    return StationsRequest(measurements=measurements, **fields)


def build_trajectory_request(
    cell_id: str, csi: Array, path_features: Sequence[PathFeatures] | None = None, **fields: Any
) -> TrajectoryRequest:
    """A request to locate several snapshots of one user together.

    `csi` is complex `[snapshots, antennas, subcarriers]`; `GET /models` tells how many snapshots the model takes and
    how near to each other they must be. `path_features` has one element for each snapshot: what the base station
    measured beside the CSI. `fields` are further fields of `TrajectoryRequest`. Raises `pydantic.ValidationError` if a
    field is wrong, and `ValueError` if there are not as many path features as snapshots.
    """
    measured: Sequence[PathFeatures | None] = [None] * len(csi) if path_features is None else path_features
    if len(measured) != len(csi):
        raise ValueError(f"{len(measured)} path features for {len(csi)} snapshots")
    snapshots = [
        Snapshot(csi=_encode_csi(one), path_features=features) for one, features in zip(csi, measured, strict=True)
    ]
    return TrajectoryRequest(cell_id=cell_id, snapshots=snapshots, **fields)


def build_measure_request(cell_id: str, csi: Array, **fields: Any) -> MeasureRequest:
    """A request to measure one snapshot.

    `csi` is complex `[antennas, subcarriers]`; `fields` are further fields of `MeasureRequest`, such as `timestamp`.
    Raises as `build_locate_request`.
    """
    return MeasureRequest(cell_id=cell_id, csi=_encode_csi(csi), **fields)


def build_locate_body(cell_id: str, csi: Array, coarse_position: dict[str, float] | None = None) -> dict[str, Any]:
    """The JSON body of `POST /locate`, for programs with an HTTP client of their own.

    `csi` is complex `[antennas, subcarriers]`; `coarse_position` has the names of the JSON field: `lat`, `hAccuracy`.
    """
    request = build_locate_request(cell_id, csi)
    body = request.model_dump(mode="json")
    return body if coarse_position is None else body | {"coarsePosition": coarse_position}


def _encode_csi(csi: Array) -> Csi:
    array = np.ascontiguousarray(csi, "<c8")
    if np.ndim(csi) != 2:
        raise ValueError(f"csi must have the dimensions [antennas, subcarriers], not {np.ndim(csi)} dimensions")
    return Csi(encoding="complex64", shape=list(array.shape), data=array.tobytes())
