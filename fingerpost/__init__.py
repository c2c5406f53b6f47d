"""The Python client of Fingerpost, a service that locates radio users from channel state information (CSI).

from fingerpost import Client, CoarsePosition
"""

from fingerpost.client import AsyncClient, Client
from fingerpost.errors import ClientError, NoAnswer, Refused
from fingerpost.requests import (
    build_locate_body,
    build_locate_request,
    build_measure_request,
    build_stations_request,
    build_trajectory_request,
)
from fingerpost.wire import (
    BatchRequest,
    BatchResponse,
    BatchResult,
    CoarsePosition,
    Csi,
    InvalidParameter,
    LocateRequest,
    LocateResponse,
    Problem,
    StationMeasurement,
    StationsRequest,
)
from fingerpost.wire_measure import MeasureRequest, MeasureResponse
from fingerpost.wire_provenance import LwlmProvenance, Provenance, StationShare, TrackProvenance
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest, TrajectoryResponse

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BatchRequest",
    "BatchResponse",
    "BatchResult",
    "Client",
    "ClientError",
    "CoarsePosition",
    "Csi",
    "InvalidParameter",
    "LocateRequest",
    "LocateResponse",
    "LwlmProvenance",
    "MeasureRequest",
    "MeasureResponse",
    "NoAnswer",
    "PathFeatures",
    "Problem",
    "Provenance",
    "Refused",
    "Snapshot",
    "StationMeasurement",
    "StationShare",
    "StationsRequest",
    "TrackProvenance",
    "TrajectoryRequest",
    "TrajectoryResponse",
    "build_locate_body",
    "build_locate_request",
    "build_measure_request",
    "build_stations_request",
    "build_trajectory_request",
]
