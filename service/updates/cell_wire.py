"""Cells as they go over the wire, and the way from there to the reference database and back."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.functional_validators import BeforeValidator

from fingerpost.wire import CellId, Dimension, Latitude, Longitude
from fingerpost.wire_model import WireModel, WireRequest, optional
from reference_db.cell import Area, Cell, describe_errors
from reference_db.manifest import Manifest, ModelPolicy
from reference_db.retention import Retention
from service.errors import FieldIncorrect, shorten_name

M = TypeVar("M", bound=BaseModel)

_STO_NS_DECIMALS = 6
_YAW_DECIMALS = 9  # so that an answer's degrees, sent back, are the same degrees


def null_means(default: object, kind: Any) -> BeforeValidator:
    """For an optional field of a kind that has a default: null means the same as absent."""
    return BeforeValidator(lambda value: default if value is None else value, json_schema_input_type=kind | None)


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
    yaw_deg: Annotated[
        float, Field(ge=-360, le=360, description="Direction of the array's broadside, counter-clockwise from east.")
    ]
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
    height: Annotated[float, Field(ge=-1e3, le=1e5)] | None = None
    yaw_deg: Annotated[
        Annotated[float, Field(ge=-360, le=360)] | None,
        Field(description="Direction of the array's broadside, counter-clockwise from east."),
    ] = None
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
    models: Annotated[list[str], Field(description="The families of the models that locate users in the cell.")]
    not_served: NotServed | None = optional("Present where `models` is empty.")
    accuracy: CellAccuracy | None = optional(
        "Absent where this replica does not know the errors: the version was published without a calibration for the "
        "active model, and the cell is not in memory."
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


def describe_cell(cell: Cell) -> CellDescription:
    return CellDescription(**_description_fields(cell))


def describe_retention(retention: Retention) -> CellRetention:
    return CellRetention(**retention.model_dump())


def describe_version(manifest: Manifest) -> CellDetail:
    return CellDetail(
        **_description_fields(manifest.cell),
        cell_id=manifest.cell.cell_id,
        version=manifest.version,
        digest=manifest.digest,
        parent=manifest.parent,
        created_at=manifest.created_at,
        change=CellChange(**manifest.change.model_dump(exclude={"request"})),
        retention=describe_retention(manifest.retention),
        model=CellModel(policy=manifest.model),
        fingerprints=manifest.fingerprints,
        quality=dict(manifest.quality),
    )


def read_cell_input(described: CellInput, cell_id: str) -> Cell:
    """The description of cell `cell_id`. Raises `FieldIncorrect`."""
    if described.cell_id not in (None, cell_id):
        raise FieldIncorrect(
            "/cell/cellId", f"describes cell {shorten_name(described.cell_id)!r}, not {shorten_name(cell_id)!r}"
        )
    converted = {"cell_id", "point", "yaw_deg", "area", "survey_sto_ns", "user_sto_ns"}
    fields = described.model_dump(exclude=converted, by_alias=False) | {
        "cell_id": cell_id,
        "latitude_deg": described.point.lat,
        "longitude_deg": described.point.lon,
        "yaw": math.radians(described.yaw_deg),
        "area": None if described.area is None else read_area(described.area, "/cell/area"),
        "survey_sto": _read_sto(described.survey_sto_ns),
        "user_sto": _read_sto(described.user_sto_ns),
    }
    return _build(Cell, fields, "/cell")


def read_correction(correction: CellCorrection, cell: Cell) -> Cell:
    """The description of `cell` with the fields that change. Raises `FieldIncorrect`."""
    fields = cell.model_dump()
    array = {} if correction.array is None else correction.array.model_dump(by_alias=False, exclude_none=True)
    fields["array"] = fields["array"] | array
    for name in ("height", "carrier_frequency", "bandwidth"):
        if (value := getattr(correction, name)) is not None:
            fields[name] = value
    if correction.point is not None:
        fields |= {"latitude_deg": correction.point.lat, "longitude_deg": correction.point.lon}
    if correction.yaw_deg is not None:
        fields["yaw"] = math.radians(correction.yaw_deg)
    if correction.area is not None:
        fields["area"] = read_area(correction.area, "/area")
    for name, sto_ns in (("survey_sto", correction.survey_sto_ns), ("user_sto", correction.user_sto_ns)):
        if sto_ns is not None:
            fields[name] = _read_sto(sto_ns)
    return _build(Cell, fields, "")


def read_area(area: CellArea, param: str) -> Area:
    """Raises `FieldIncorrect` about `param`."""
    return _build(Area, area.model_dump(by_alias=False), param)


def read_retention(retention: CellRetention) -> Retention:
    """Raises `FieldIncorrect`."""
    return _build(Retention, retention.model_dump(by_alias=False), "")


def _build(model: type[M], fields: dict[str, object], param: str) -> M:
    """Raises `FieldIncorrect` about `param` for fields that contradict each other: the wire types do not check that."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise FieldIncorrect(param, describe_errors(error)) from error


def _description_fields(cell: Cell) -> dict[str, Any]:
    return {
        "point": Place(lat=cell.latitude_deg, lon=cell.longitude_deg),
        "height": cell.height,
        "yaw_deg": round(math.degrees(cell.yaw), _YAW_DECIMALS),
        "array": CellArray(**cell.array.model_dump()),
        "carrier_frequency": cell.carrier_frequency,
        "bandwidth": cell.bandwidth,
        "subcarriers": cell.subcarriers,
        "area": None if cell.area is None else CellArea(**cell.area.model_dump()),
        "survey_sto_ns": _describe_sto(cell.survey_sto),
        "user_sto_ns": _describe_sto(cell.user_sto),
    }


def _read_sto(sto_ns: float | None) -> float | None:
    """Seconds."""
    return None if sto_ns is None else sto_ns / 1e9


def _describe_sto(sto: float | None) -> float | None:
    """Nanoseconds."""
    return None if sto is None else round(sto * 1e9, _STO_NS_DECIMALS)
