"""The Python client of Fingerpost, a service that locates radio users from channel state information (CSI).

from fingerpost import Client, CoarsePosition
"""

from fingerpost.cell_client import AsyncCellClient, CellClient
from fingerpost.change_calls import Change
from fingerpost.client import AsyncClient, Client
from fingerpost.csi import join_pairs
from fingerpost.errors import ClientError, NoAnswer, Refused
from fingerpost.fingerprints import Fingerprints
from fingerpost.requests import (
    build_locate_body,
    build_locate_request,
    build_measure_request,
    build_stations_request,
    build_trajectory_request,
    build_truth,
)
from fingerpost.track import AsyncTrack, Track
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
from fingerpost.wire_artifacts import ModelList
from fingerpost.wire_cells import (
    ArrayCorrection,
    CellArea,
    CellArray,
    CellCorrection,
    CellDescription,
    CellDetail,
    CellList,
    CellRetention,
    CellSummary,
    Place,
)
from fingerpost.wire_fingerprints import Circle, ErrorMap, Selection
from fingerpost.wire_health import Latency
from fingerpost.wire_keys import KeyList, ListedKey
from fingerpost.wire_measure import MeasureRequest, MeasureResponse
from fingerpost.wire_provenance import (
    CoarseProvenance,
    Fallback,
    KnnProvenance,
    LwlmProvenance,
    Provenance,
    StationShare,
    TrackProvenance,
)
from fingerpost.wire_shapes import (
    GeographicPoint,
    Local2dPointUncertaintyEllipse,
    PointUncertaintyCircle,
    PointUncertaintyEllipse,
)
from fingerpost.wire_survey import SurveyReport
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest, TrajectoryResponse
from fingerpost.wire_truths import Truth, TruthReport, TruthsResponse
from fingerpost.wire_versions import VersionDiff, VersionList, VersionSummary

__version__ = "1.0.0"

__all__ = [
    "ArrayCorrection",
    "AsyncCellClient",
    "AsyncClient",
    "AsyncTrack",
    "BatchRequest",
    "BatchResponse",
    "BatchResult",
    "CellArea",
    "CellArray",
    "CellClient",
    "CellCorrection",
    "CellDescription",
    "CellDetail",
    "CellList",
    "CellRetention",
    "CellSummary",
    "Change",
    "Circle",
    "Client",
    "ClientError",
    "CoarsePosition",
    "CoarseProvenance",
    "Csi",
    "ErrorMap",
    "Fallback",
    "Fingerprints",
    "GeographicPoint",
    "InvalidParameter",
    "KeyList",
    "KnnProvenance",
    "Latency",
    "ListedKey",
    "Local2dPointUncertaintyEllipse",
    "LocateRequest",
    "LocateResponse",
    "LwlmProvenance",
    "MeasureRequest",
    "MeasureResponse",
    "ModelList",
    "NoAnswer",
    "PathFeatures",
    "Place",
    "PointUncertaintyCircle",
    "PointUncertaintyEllipse",
    "Problem",
    "Provenance",
    "Refused",
    "Selection",
    "Snapshot",
    "StationMeasurement",
    "StationShare",
    "StationsRequest",
    "SurveyReport",
    "Track",
    "TrackProvenance",
    "TrajectoryRequest",
    "TrajectoryResponse",
    "Truth",
    "TruthReport",
    "TruthsResponse",
    "VersionDiff",
    "VersionList",
    "VersionSummary",
    "build_locate_body",
    "build_locate_request",
    "build_measure_request",
    "build_stations_request",
    "build_trajectory_request",
    "build_truth",
    "join_pairs",
]
