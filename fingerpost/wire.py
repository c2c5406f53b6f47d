"""What `POST /locate` and `/locate/batch` take and answer. Names of 3GPP TS 29.572 wherever it has one."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from fingerpost.wire_model import Base64, Timestamp, WireModel, WireRequest, optional
from fingerpost.wire_provenance import Fallback, UserProvenance
from fingerpost.wire_shapes import StatedLocation

CELL_HEADER = "Fingerpost-Cell"
# The pattern of `reference_db.cell_id`: this package imports nothing of the server.
CELL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MOST_STATIONS = 16  # of one user; an artifact joins fewer
MOST_SHAPES = 16  # TS 29.572 has twelve

CellId = Annotated[
    str, Field(pattern=CELL_ID_PATTERN, description="The cell whose base station measured the CSI.", examples=["cell"])
]
Latitude = Annotated[float, Field(ge=-90, le=90, description="WGS84 degrees.")]
Longitude = Annotated[float, Field(ge=-180, le=180, description="WGS84 degrees.")]
East = Annotated[float, Field(description="Metres east of the base station.")]
North = Annotated[float, Field(description="Metres north of the base station.")]
Dimension = Annotated[int, Field(ge=1, le=65536)]
MeasuredAt = Annotated[
    Timestamp,
    Field(description="When the CSI was measured: since 2010, and at most a minute in the future. Absent: now."),
]
WantedAccuracy = Annotated[
    float, Field(gt=0, description="The accuracy wanted, metres. accuracyFulfilmentIndicator answers it.")
]
WantedConfidence = Annotated[
    int,
    Field(
        ge=50,
        le=99,
        description="The confidence wanted, per cent. The answer has it, or the nearest one that is known, and says "
        "which. Absent: the service's own, usually 95.",
    ),
]
MaxAge = Annotated[
    float,
    Field(gt=0, description="The caller takes no location older than this, seconds: 422 LOCATION_TOO_OLD."),
]
MaxRespTime = Annotated[
    float, Field(gt=0, le=3600, description="Deadline in seconds. The service discards later answers.")
]
RequestId = Annotated[
    str,
    Field(
        max_length=128,
        description="Names this request. The answer repeats it. A retry has the same requestId: snapshots of a track "
        "with the same requestId count once. Operators may score the answer by it, if the service is set to remember "
        "answers. Do not put anything in it that identifies a person.",
    ),
]
LosNlosMeasureInd = Annotated[
    Literal["LOS", "NLOS"],
    Field(description="Whether the first path is more likely the direct one (LOS) or a detour (NLOS)."),
]
WholeMinutes = Annotated[int, Field(ge=0, le=32767, description="Whole minutes. 32767: so many or more.")]


class Csi(WireRequest):
    """The channel frequency response of one user at one moment.

    Antennas row by row, row 0 at the bottom, column 0 at the right seen from behind the array; subcarriers by
    ascending frequency. A path of delay tau contributes exp(-j 2 pi f tau).
    """

    encoding: Annotated[
        Literal["complex64", "complex32"],
        Field(description="Little-endian real-imaginary pairs of float32 (complex64) or float16 (complex32)."),
    ]
    shape: Annotated[
        list[Dimension],
        Field(min_length=2, max_length=2, description="[antennas, subcarriers]. The subcarrier index runs fastest."),
    ]
    data: Annotated[Base64, Field(description="base64 in JSON, raw bytes in msgpack.")]
    scale: Annotated[float, Field(gt=0)] | None = Field(
        default=1.0,
        description="The factor to multiply the numbers by, where complex32 cannot hold them. Absent or null: 1.",
    )


class CoarsePosition(WireRequest):
    """A GNSS fix or any other first guess: lat and lon, or x and y."""

    lat: Latitude | None = optional()
    lon: Longitude | None = optional()
    x: East | None = optional()
    y: North | None = optional()
    h_accuracy: Annotated[float, Field(ge=0, le=1e6, description="Its 1-sigma error on each axis, metres.")]


class QualityRequest(WireRequest):
    """What a caller may ask of an answer."""

    h_accuracy: WantedAccuracy | None = optional()
    confidence: WantedConfidence | None = optional()
    supported_gad_shapes: (
        Annotated[
            list[Annotated[str, Field(max_length=64, pattern="^[A-Z0-9_]+$", examples=["POINT_UNCERTAINTY_CIRCLE"])]],
            Field(min_length=1, max_length=MOST_SHAPES),
        ]
        | None
    ) = optional(
        "The shapes of TS 29.572 that the caller can read. Answers have the best of them: POINT_UNCERTAINTY_ELLIPSE, "
        "POINT_UNCERTAINTY_CIRCLE or POINT, and LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE. Others are ignored. A list that "
        "names none of the four gets 422 GAD_SHAPES_NOT_SUPPORTED. Absent: both ellipses.",
        alias="supportedGADShapes",
    )
    max_age: MaxAge | None = optional()


class LocateRequest(QualityRequest):
    """One snapshot of CSI and, where there is one, a coarse position."""

    cell_id: CellId
    csi: Csi
    coarse_position: CoarsePosition | None = optional("Absent: the CSI alone finds the neighbourhood.")
    timestamp: MeasuredAt | None = optional()
    max_resp_time: MaxRespTime | None = optional()
    allow_fallback: bool | None = optional(
        "Whether another method may answer where the first one that the cell's model policy allows does not. Absent: "
        "true. false: the service answers POSITIONING_METHOD_FAILURE instead, or the cause itself where the CSI is at "
        "fault (such as CSI_FOREIGN) or a retry may succeed."
    )
    request_id: RequestId | None = optional()
    track_id: Annotated[str, Field(min_length=1, max_length=128)] | None = optional(
        "A name that the user keeps for some seconds. The service holds the last snapshots of each trackId for a short "
        "time and locates them together once there are enough. Other API keys have tracks of their own. The same "
        "requestId, or the same CSI and timestamp, is one snapshot. Do not put anything in it that identifies a person."
    )


class StationMeasurement(WireRequest):
    """One snapshot of CSI, as one of the base stations measured it."""

    cell_id: CellId
    csi: Csi
    timestamp: MeasuredAt | None = optional()


class StationsRequest(QualityRequest):
    """CSI of one user from several base stations, at the same moment but for fractions of a second.

    The model `lwlm` locates the user by each of them, and joins the answers.
    """

    measurements: Annotated[
        list[StationMeasurement],
        Field(
            min_length=2,
            max_length=MOST_STATIONS,
            description="One of each base station, at most as many as the artifact's `stations` (see /models). The "
            "answer is in the frame of the first one's cell.",
        ),
    ]
    max_resp_time: MaxRespTime | None = optional()
    request_id: RequestId | None = optional()

    @property
    def cell_id(self) -> str:
        """The cell whose frame the answer is in."""
        return self.measurements[0].cell_id

    @property
    def timestamp(self) -> datetime | None:
        """When the oldest snapshot was measured. None: no measurement has a time."""
        return min((one.timestamp for one in self.measurements if one.timestamp is not None), default=None)


class LocateResponse(StatedLocation):
    """Where the user is, and how far to trust it."""

    request_id: str | None = optional()
    age_of_location_estimate: WholeMinutes
    timestamp_of_location_estimate: datetime
    los_nlos_measure_ind: LosNlosMeasureInd | None = optional()
    provenance: Annotated[UserProvenance, Field(discriminator="source")]


class InvalidParameter(WireModel):
    """A field at fault."""

    param: Annotated[str, Field(description="A JSON pointer into the request, or `query NAME` or `header NAME`.")]
    reason: str


class Problem(WireModel):
    """RFC 9457 problem details, with the cause and the invalid parameters of 3GPP TS 29.571."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    cause: str
    invalid_params: list[InvalidParameter] | None = optional()
    fallbacks: list[Fallback] | None = optional("POSITIONING_METHOD_FAILURE: the methods that did not locate the user.")


def _name_form(body: Any) -> str:
    several = "measurements" in body if isinstance(body, dict) else isinstance(body, StationsRequest)
    return "measurements" if several else "cellId"


# A user's body: what one base station measured, or what several did.
UserRequest: TypeAlias = Annotated[
    Annotated[LocateRequest, Tag("cellId")] | Annotated[StationsRequest, Tag("measurements")],
    Discriminator(_name_form),
]


class BatchRequest(WireRequest):
    """Many users of any cells."""

    items: Annotated[list[UserRequest], Field(min_length=1)]


class BatchResult(WireModel):
    """Exactly one of the two fields is there."""

    location: LocateResponse | None = optional()
    problem: Problem | None = optional()


class BatchResponse(WireModel):
    """Results in the order of the request's items."""

    results: list[BatchResult]
