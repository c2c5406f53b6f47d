"""What goes over the wire: JSON or msgpack, camelCase, names of 3GPP TS 29.572 wherever it has one."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reference_db.cell_id import CELL_ID_PATTERN

CELL_HEADER = "Fingerpost-Cell"

CellId = Annotated[str, Meta(pattern=CELL_ID_PATTERN, description="Which cell's base station measured the CSI.")]
Latitude = Annotated[float, Meta(ge=-90, le=90, description="WGS84 degrees.")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="WGS84 degrees.")]
Accuracy = Annotated[float, Meta(ge=0, le=1e6)]
Dimension = Annotated[int, Meta(ge=1, le=65536)]
Timestamp = Annotated[datetime, Meta(tz=True, description="When the CSI was measured; now where absent.")]
WantedAccuracy = Annotated[float, Meta(gt=0, description="The accuracy wanted, metres; answered by the indicator.")]
MaxRespTime = Annotated[float, Meta(gt=0, le=3600, description="Seconds after which the answer is of no use any more.")]
RequestId = Annotated[str, Meta(max_length=128, description="Returned as it is. Put no identity of a person in it.")]
Fulfilment = Literal["REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"]
WholeMinutes = Annotated[int, Meta(ge=0, le=32767, description="Whole minutes.")]


class WireStruct(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What every body is made of."""


class _Struct(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What requests are made of. Answers may get more fields, which clients of today pass over."""


class Csi(_Struct, frozen=True, kw_only=True):
    """The channel frequency response of one user at one moment."""

    encoding: Annotated[
        Literal["complex64", "complex32"],
        Meta(description="Little-endian real-imaginary pairs of float32 (complex64) or float16 (complex32)."),
    ]
    shape: Annotated[
        list[Dimension],
        Meta(min_length=2, max_length=2, description="[antennas, subcarriers]; the last one runs fastest."),
    ]
    data: Annotated[bytes, Meta(description="base64 in JSON, raw bytes in msgpack.")]
    scale: Annotated[
        float,
        Meta(gt=0, description="Factor that the numbers were divided by, so that complex32 holds them."),
    ] = 1.0


class CoarsePosition(_Struct, frozen=True, kw_only=True):
    """A GNSS fix or any other first guess: lat and lon, or x and y."""

    lat: Latitude | UnsetType = UNSET
    lon: Longitude | UnsetType = UNSET
    x: Annotated[float, Meta(description="Metres east of the base station.")] | UnsetType = UNSET
    y: Annotated[float, Meta(description="Metres north of the base station.")] | UnsetType = UNSET
    h_accuracy: Annotated[float, Meta(ge=0, le=1e6, description="Its 1-sigma error on each axis, metres.")]


class LocateRequest(_Struct, frozen=True, kw_only=True):
    cell_id: CellId
    csi: Csi
    coarse_position: (
        Annotated[CoarsePosition, Meta(description="Where absent, the CSI alone says where to look.")] | UnsetType
    ) = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    h_accuracy: WantedAccuracy | UnsetType = UNSET
    max_resp_time: MaxRespTime | UnsetType = UNSET
    request_id: RequestId | UnsetType = UNSET
    track_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                description="A name of the user's own choice, the same for some seconds: of one that is given, the "
                "service keeps the last snapshots for a short while and, once there are enough, locates them together. "
                "Put no identity of a person in it.",
            ),
        ]
        | UnsetType
    ) = UNSET


class Point(WireStruct, frozen=True, kw_only=True):
    lat: float
    lon: float


class LocalPoint(WireStruct, frozen=True, kw_only=True):
    """Metres east (x) and north (y) of the local origin."""

    x: float
    y: float


class LocalOrigin(WireStruct, frozen=True, kw_only=True):
    """The base station: `coordinate_id` is its cell's name."""

    coordinate_id: str
    point: Point


class UncertaintyEllipse(WireStruct, frozen=True, kw_only=True):
    """Half axes in metres; orientation of the major one in degrees clockwise from north."""

    semi_major: float
    semi_minor: float
    orientation_major: int


class PointUncertaintyEllipse(
    WireStruct, frozen=True, kw_only=True, tag_field="shape", tag="POINT_UNCERTAINTY_ELLIPSE"
):
    point: Point
    uncertainty_ellipse: UncertaintyEllipse
    confidence: Annotated[int, Meta(ge=0, le=100, description="Per cent of users inside the ellipse.")]


class Local2dPointUncertaintyEllipse(
    WireStruct, frozen=True, kw_only=True, tag_field="shape", tag="LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE"
):
    local_origin: LocalOrigin
    point: LocalPoint
    uncertainty_ellipse: UncertaintyEllipse
    confidence: Annotated[int, Meta(ge=0, le=100)]


class ArtifactReference(WireStruct, frozen=True, kw_only=True):
    name: str
    version: str
    digest: str


class Provenance(WireStruct, frozen=True, kw_only=True, tag_field="source", tag="mateformer"):
    """Where an estimate comes from; enough to compute it again. `source`: what made it."""

    artifact: ArtifactReference
    cell_version: str
    neighbours: Annotated[int, Meta(description="Fingerprints that the CSI was compared with.")]
    passes: Annotated[int, Meta(description="How often it was, the neighbourhood fetched anew around the answer.")]
    retrieval: Annotated[
        Literal["fused"],
        Meta(description="How the fingerprints were found: by the CSI and, where there was one, the coarse position."),
    ]
    coarse_position_used: bool
    calibrated_h_accuracy: (
        Annotated[
            float,
            Meta(
                description="The coarse position's 1-sigma error that the ellipse was calibrated for, metres; absent "
                "where it was calibrated without one."
            ),
        ]
        | UnsetType
    ) = UNSET
    fallback: (
        Annotated[
            str,
            Meta(
                description="Why a user with a trackId was located by this snapshot alone: a cause, as of problems.",
                examples=["TRACK_TOO_SHORT"],
            ),
        ]
        | UnsetType
    ) = UNSET


class TrackProvenance(WireStruct, frozen=True, kw_only=True, tag_field="source", tag="scadf-moe"):
    """Of the last point of a track, located together with those before it."""

    artifact: ArtifactReference
    cell_version: str
    snapshots: Annotated[int, Meta(description="How many were located together, this one included.")]
    cues: Annotated[Literal["estimated"], Meta(description="Where the cues beside the CSI came from: the CSI.")]


class LocateResponse(WireStruct, frozen=True, kw_only=True):
    request_id: str | UnsetType = UNSET
    location_estimate: PointUncertaintyEllipse
    local_location_estimate: Local2dPointUncertaintyEllipse
    h_accuracy: Annotated[float, Meta(description="Radius of the circle of this confidence, metres.")]
    accuracy_fulfilment_indicator: Fulfilment | UnsetType = UNSET
    age_of_location_estimate: WholeMinutes
    timestamp_of_location_estimate: datetime
    provenance: Provenance | TrackProvenance


class InvalidParameter(msgspec.Struct, frozen=True):
    param: Annotated[str, Meta(description="JSON pointer.")]
    reason: str


class Problem(WireStruct, frozen=True, kw_only=True):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    cause: str
    invalid_params: list[InvalidParameter] | UnsetType = UNSET


class BatchRequest(_Struct, frozen=True, kw_only=True):
    items: list[LocateRequest]


class BatchResult(WireStruct, frozen=True, kw_only=True):
    """Exactly one of the two."""

    location: LocateResponse | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchResponse(WireStruct, frozen=True, kw_only=True):
    """Results in the order of the request's items."""

    results: list[BatchResult]


class RawBatch(_Struct, frozen=True, kw_only=True):
    """A batch whose items are read one by one, so that a bad one spoils no other."""

    items: Annotated[list[msgspec.Raw], Meta(min_length=1)]


class RawItems(_Struct, frozen=True, kw_only=True):
    """A batch whose items are not even told apart."""

    items: msgspec.Raw
