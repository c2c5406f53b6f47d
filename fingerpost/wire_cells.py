"""Cells as they go over the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fingerpost.wire import CellId, Dimension, Latitude, Longitude
from fingerpost.wire_model import WireModel, WireRequest, null_means, optional

# The families that a cell's policy names; those of `reference_db.manifest`: this package imports nothing of the server.
ModelPolicy: TypeAlias = Literal["auto", "mateformer", "scadf-moe", "lwlm"]
DriftSign: TypeAlias = Literal["signal", "fixes"]

NEGATIVE_HEIGHT = "cannot be negative: metres above the ground at the base station, not above the sea"


def _refuse_negative(height: float) -> float:
    if height < 0:
        raise PydanticCustomError("negative_height", NEGATIVE_HEIGHT)
    return height


# Answers may hold less: earlier releases accepted it.
Height = Annotated[
    float,
    Field(
        le=1e5,
        json_schema_extra={"minimum": 0},
        description="Of the array, in metres above the ground at the base station.",
    ),
    AfterValidator(_refuse_negative),
]
Spacing = Annotated[float, Field(gt=0, le=100)]
Polarisations = Literal[1, 2]
StoNs = Annotated[float, Field(ge=0, le=1e6)]

_SURVEY_STO = (
    "1-sigma sampling-time offset of the radios that measured the fingerprints, nanoseconds. 0: synchronised. Absent: "
    "unknown."
)
_USER_STO = (
    "1-sigma sampling-time offset of the radios that are located, nanoseconds. Absent: unknown. If it is above "
    "surveyStoNs, users are compared with fingerprints that are degraded alike."
)

_AZIMUTH = "Compass azimuth of the array's broadside, degrees clockwise from north."

_DRIFT = "Absent where this replica does not serve the version. A new version begins anew."


class Place(WireRequest):
    """WGS84 degrees of the base station."""

    lat: Latitude
    lon: Longitude


class CellArray(WireRequest):
    """Rows x columns of antennas, `spacing` wavelengths apart.

    With two `polarisations`, slanted by 45 degrees to either side, each place has two antennas; CSI has all antennas of
    the first polarisation, then those of the second.
    """

    rows: Annotated[int, Field(ge=1, le=256)]
    columns: Annotated[int, Field(ge=1, le=256)]
    spacing: Annotated[Spacing, null_means(0.5, Spacing)] = 0.5
    polarisations: Annotated[Polarisations, null_means(1, Polarisations)] = 1


class CellArea(WireRequest):
    """A rectangle, its edges included. Metres east and north of the base station."""

    west: float
    south: float
    east: float
    north: float


class CellDescription(WireModel):
    """A base station and its channel. Metres, hertz."""

    point: Place
    height: Annotated[float, Field(ge=-1e3, le=1e5)]
    azimuth_deg: Annotated[float, Field(ge=-360, le=360, description=_AZIMUTH)]
    array: CellArray
    carrier_frequency: Annotated[float, Field(ge=1e6, le=1e12)]
    bandwidth: Annotated[float, Field(gt=0)]
    subcarriers: Dimension
    area: Annotated[
        CellArea | None, Field(description="No fingerprint may lie outside this area. Absent: any may.")
    ] = None
    survey_sto_ns: Annotated[StoNs | None, Field(description=_SURVEY_STO)] = None
    user_sto_ns: Annotated[StoNs | None, Field(description=_USER_STO)] = None


class CellInput(CellDescription):
    """The description of a cell, as `GET /cells/{cellId}` answers it."""

    model_config = ConfigDict(extra="forbid")

    height: Height
    cell_id: CellId | None = optional("The name of the cell. If present, it has to equal the name in the path.")


class ArrayCorrection(WireRequest):
    """An array's fields that change. The number of antennas cannot."""

    rows: Annotated[int, Field(ge=1, le=256)] | None = None
    columns: Annotated[int, Field(ge=1, le=256)] | None = None
    spacing: Spacing | None = None
    polarisations: Polarisations | None = None


class CellCorrection(WireRequest):
    """The fields of a description that change; absent fields stay. Metres, hertz."""

    point: Place | None = None
    fingerprints: Annotated[
        Literal["move", "stay"] | None,
        Field(
            description="Needed with `point`. `move`: fingerprints keep their metres from the base station and move "
            "with it on Earth. `stay`: they stay where they are on Earth, and get new metres and new ids."
        ),
    ] = None
    height: Height | None = None
    azimuth_deg: Annotated[Annotated[float, Field(ge=-360, le=360)] | None, Field(description=_AZIMUTH)] = None
    array: ArrayCorrection | None = None
    carrier_frequency: Annotated[float, Field(ge=1e6, le=1e12)] | None = None
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    area: Annotated[CellArea | None, Field(description="No fingerprint may lie outside this area.")] = None
    survey_sto_ns: Annotated[StoNs | None, Field(description=_SURVEY_STO)] = None
    user_sto_ns: Annotated[StoNs | None, Field(description=_USER_STO)] = None


class CellRetention(WireRequest):
    """How long a cell keeps its fingerprints. An absent limit does not apply."""

    max_age_s: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(
            description="Greatest age in seconds since the measurement. Fingerprints of unknown time stay.",
            examples=[2.6e6],
        ),
    ] = None
    max_fingerprints: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Greatest number of fingerprints. The newest stay.", examples=[50000]),
    ] = None
    min_spacing_m: Annotated[
        Annotated[float, Field(gt=0, le=1000)] | None,
        Field(
            description="Least distance between two fingerprints, metres. Of two closer ones, the newer stays.",
            examples=[0.2],
        ),
    ] = None


Stage = Literal["reading", "checking", "indexing", "testing", "calibrating", "publishing"]


class CellProgress(WireModel):
    """How far the change of a cell has come on this replica."""

    cell_id: str
    stage: Stage | None = optional(
        "`reading`: the file that was sent. `checking`: whether it is a survey of the cell. `indexing`: fingerprints. "
        "`testing`: whether users would be located as well as before. `calibrating`: the ellipses. `publishing`: the "
        "version. Absent: this replica changes nothing in the cell."
    )
    since: datetime | None = optional("When the stage began.")


class RetentionPreview(WireModel):
    """The fingerprints that a retention would remove at once from a version, by the limit that removes them."""

    version: str
    fingerprints: Annotated[int, Field(description="The number of fingerprints of the version.")]
    selected: Annotated[int, Field(description="How many of them would be removed.")]
    too_old: Annotated[int, Field(description="Of these: by `maxAgeS`.")]
    too_close: Annotated[int, Field(description="Of the others: by `minSpacingM`.")]
    too_many: Annotated[int, Field(description="Of those that are left: by `maxFingerprints`.")]


class CellModel(WireRequest):
    """The models that may locate users in a cell."""

    policy: Annotated[
        ModelPolicy,
        Field(
            description="`mateformer` compares a user's CSI with the fingerprints of the cell. `scadf-moe` locates "
            "several snapshots of a user together, in cells that the artifact was trained in. `lwlm` measures and "
            "locates users by the base station alone. `auto` uses `scadf-moe` where there are enough snapshots and the "
            "artifact serves the cell, else `mateformer` where the cell has enough fingerprints, and `lwlm` otherwise."
        ),
    ]


class CellChange(WireModel):
    """The change that made a version. `added` and `removed` count fingerprints."""

    action: str
    added: int
    removed: int
    author: str
    note: str


class CellDrift(WireModel):
    """Whether the traffic of a version on this replica still fits its calibration.

    Users are tested one after the other; of a thousand snapshots from one place few count. Unchanged traffic brings a
    false alarm at most once in 100,000 counted users.
    """

    signs: Annotated[
        list[DriftSign],
        Field(
            description="What no longer fits. `signal`: the CSI of users, to the fingerprints. `fixes`: coarse "
            "positions, to the estimates. Empty: no drift was noticed."
        ),
    ]
    since: datetime | None = optional("About when it began. Absent: no drift was noticed.")
    noticed: datetime | None = optional("When it was noticed. Absent: no drift was noticed.")
    evidence: Annotated[
        float,
        Field(description="How sure: unchanged traffic brings so much evidence at most once in as many counted users."),
    ]
    counted: Annotated[int, Field(description="Users counted since the version is in service on this replica.")]
    turned_deg: float | None = optional(
        "By how much the array seems turned from its description, degrees clockwise, to add to `azimuthDeg`: from the "
        "bearings of estimates to those of coarse positions, since the drift began. Absent where no turn is clear. "
        "Estimates follow coarse positions, so the array may be turned by more."
    )


class CellDetail(CellDescription):
    """One version of a cell."""

    cell_id: str
    version: str
    digest: str
    parent: Annotated[str | None, Field(description="The digest of the version before. null: this is the first.")]
    created_at: datetime
    change: CellChange
    retention: CellRetention
    model: CellModel
    fingerprints: Annotated[int, Field(description="The number of fingerprints.")]
    quality: dict[str, Any]
    drift: CellDrift | None = optional(_DRIFT)


class CellAccuracy(WireModel):
    """Errors in metres without a coarse position, leave-one-out on the cell's own fingerprints.

    The circle with this radius contains `confidence` percent of the users.
    """

    median: float
    p95: float
    radius: float
    confidence: int


class NotServed(WireModel):
    """Why no model of this replica locates users in a cell: the cause and the detail that a request would get."""

    cause: str
    detail: str


class CellSummary(WireModel):
    """The current version of a cell, in short, and how the models that are active on this replica serve it."""

    cell_id: str
    version: str
    fingerprints: int
    created_at: datetime
    author: str
    note: str
    newest_measured: datetime | None = optional("When the newest fingerprint was measured. Absent: unknown.")
    models: Annotated[list[str], Field(description="The methods that locate users in the cell.")]
    not_served: NotServed | None = optional("Present where `models` is empty.")
    accuracy: CellAccuracy | None = optional(
        "Absent where this replica does not know the errors: the version was published without a calibration for the "
        "active model, and the cell is not in memory."
    )
    drift: CellDrift | None = optional(_DRIFT)
    coverage_contradicted: bool | None = optional(
        "true: of the cell's surveyed truths of the last 30 days, fewer lie inside the ellipses than stated, and "
        "chance does not explain it. Absent: they do not contradict what is stated, or this replica has not seen them."
    )
    refused: str | None = optional("Why this replica cannot serve the version, and serves an earlier one.")


class CellFault(WireModel):
    """Why the current version of a cell cannot be served."""

    cell_id: str
    cause: Annotated[
        str,
        Field(
            description="`CELL_UNREADABLE`: it is damaged. `STORE_UNAVAILABLE`: its part of the database cannot be "
            "reached."
        ),
    ]
    detail: str


class CellList(WireModel):
    """All cells of the reference database."""

    cells: list[CellSummary]
    unreadable: list[str] | None = optional("Cells whose current version cannot be read.")
    faults: list[CellFault] | None = optional(
        "Cells whose current version cannot be read, as far as this replica has noticed. Damaged fingerprints are "
        "noticed when the cell is loaded."
    )
    incomplete: bool | None = optional(
        "true: a part of the reference database cannot be reached, the list of all cells neither, and cells of this "
        "part may be missing here."
    )
