"""The description of a cell in files: the JSON of the HTTP API, with the name of the cell."""

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from reference_db.azimuth import describe_former_angle, to_azimuth, to_direction
from reference_db.cell import AntennaArray, Area, Cell, CellId, list_errors
from reference_db.errors import BadCellDescription
from reference_db.unique_names import refuse_repeated_names

# What the API answers about a cell besides its description.
_ANSWERED = frozenset(
    ("version", "digest", "parent", "createdAt", "change", "retention", "model", "fingerprints", "quality", "drift")
)
_STO_NS_DECIMALS = 6
_STO_NS = Field(default=None, ge=0, le=1e6)
# Names of the fields in files of earlier versions, which differ by more than their case.
_FORMER = {"latitude_deg": '"point": {"lat": ...}', "longitude_deg": '"point": {"lon": ...}'}
_FORMER_STO = ("survey_sto", "user_sto")


class Point(BaseModel):
    """WGS84 degrees of the base station."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class CellDescription(BaseModel):
    """A cell as files describe it: a compass azimuth in degrees, nanoseconds, metres, hertz."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", allow_inf_nan=False)

    cell_id: CellId
    point: Point
    height: float
    azimuth_deg: float = Field(ge=-360, le=360)
    array: AntennaArray
    carrier_frequency: float
    bandwidth: float
    subcarriers: int
    area: Area | None = None
    survey_sto_ns: Annotated[float | None, _STO_NS]
    user_sto_ns: Annotated[float | None, _STO_NS]

    @classmethod
    def of(cls, cell: Cell) -> Self:
        fields = cell.model_dump(exclude={"latitude_deg", "longitude_deg", "yaw", "survey_sto", "user_sto"})
        fields |= {
            "point": {"lat": cell.latitude_deg, "lon": cell.longitude_deg},
            "azimuth_deg": to_azimuth(cell.yaw),
            "survey_sto_ns": describe_sto(cell.survey_sto),
            "user_sto_ns": describe_sto(cell.user_sto),
        }
        return cls.model_validate({to_camel(name): value for name, value in fields.items()})

    def to_cell(self) -> Cell:
        """Raises `ValidationError` for fields that no cell may have or that contradict each other."""
        fields = self.model_dump(exclude={"point", "azimuth_deg", "survey_sto_ns", "user_sto_ns"})
        return Cell(
            **fields,
            latitude_deg=self.point.lat,
            longitude_deg=self.point.lon,
            yaw=to_direction(self.azimuth_deg),
            survey_sto=read_sto(self.survey_sto_ns),
            user_sto=read_sto(self.user_sto_ns),
        )


def write_description(cell: Cell) -> str:
    """The JSON of a cell. Absent fields are unknown."""
    return CellDescription.of(cell).model_dump_json(by_alias=True, exclude_none=True)


def read_description(described: str | bytes, cell_id: str | None = None, *, former: bool = False) -> Cell:
    """A cell from JSON, as files and `fingerpost cells show --json` have it, or `cell_id` where it names none.

    With `former`, reads the form of files that earlier versions exported, too. Raises `BadCellDescription`.
    """
    try:
        fields = json.loads(described, object_pairs_hook=refuse_repeated_names)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadCellDescription([f"it is not JSON: {error}"]) from error
    if not isinstance(fields, dict):
        raise BadCellDescription([f"it is a {type(fields).__name__}, expected a JSON object"])
    try:
        if former and _is_former(fields):
            return Cell.model_validate(fields)
        if faults := _describe_former_fields(fields):
            raise BadCellDescription(faults)
        named = {} if cell_id is None else {"cellId": cell_id}
        chosen = named | {name: value for name, value in fields.items() if name not in _ANSWERED}
        return CellDescription.model_validate(chosen).to_cell()
    except ValidationError as error:
        raise BadCellDescription(list_errors(error, to_camel)) from error


def read_sto(sto_ns: float | None) -> float | None:
    """Seconds."""
    return None if sto_ns is None else sto_ns / 1e9


def describe_sto(sto: float | None) -> float | None:
    """Nanoseconds."""
    return None if sto is None else round(sto * 1e9, _STO_NS_DECIMALS)


def _is_former(fields: dict[str, Any]) -> bool:
    return "cell_id" in fields and not fields.keys() & {"cellId", "point"}


def _describe_former_fields(fields: dict[str, Any]) -> list[str]:
    """What to write instead of the fields of earlier versions, each in one sentence."""
    faults = []
    for name, value in fields.items():
        if angle := describe_former_angle(name, value):
            faults.append(angle)
        elif name in _FORMER:
            faults.append(f"{name} is no field any more; write {_FORMER[name]}")
        elif name in _FORMER_STO:
            faults.append(f"{name} (seconds) is no field any more; write {to_camel(name)}Ns (nanoseconds)")
        elif "_" in name and to_camel(name) in {field.alias for field in CellDescription.model_fields.values()}:
            faults.append(f"{name} is no field any more; write {to_camel(name)}")
    return faults
