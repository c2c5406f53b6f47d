"""Descriptions of cells from the wire, as the reference database has them."""

import math
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import BaseModel, ValidationError

from reference_db.cell import Area, Cell
from reference_db.retention import Retention
from service.errors import FieldIncorrect
from service.updates.cell_wire import CellArea, CellDescription, CellRetention
from service.updates.legacy_wire import CellId

M = TypeVar("M", bound=BaseModel)


class CellInput(CellDescription, frozen=True, kw_only=True):
    """A cell as `GET /cells/{cellId}` describes it, without what its fingerprints are."""

    cell_id: CellId | UnsetType = UNSET


def cell_from(sent: CellInput, cell_id: str) -> Cell:
    """The description of cell `cell_id`. Raises `FieldIncorrect`."""
    if sent.cell_id not in (UNSET, cell_id):
        raise FieldIncorrect("/cell/cellId", f"describes cell {sent.cell_id!r}, not {cell_id!r}")
    fields = msgspec.structs.asdict(sent) | {
        "cell_id": cell_id,
        "latitude_deg": sent.point.lat,
        "longitude_deg": sent.point.lon,
        "yaw": math.radians(sent.yaw_deg),
        "array": msgspec.structs.asdict(sent.array),
        "area": None if sent.area is None else area_from(sent.area, "/cell/area"),
    }
    del fields["point"], fields["yaw_deg"]
    return _valid(Cell, fields, "/cell")


def area_from(sent: CellArea, param: str) -> Area:
    """Raises `FieldIncorrect` about `param`."""
    return _valid(Area, msgspec.structs.asdict(sent), param)


def retention_from(sent: CellRetention) -> Retention:
    """Raises `FieldIncorrect`."""
    return _valid(Retention, msgspec.structs.asdict(sent), "")


def _valid(model: type[M], fields: dict[str, object], param: str) -> M:
    """What the wire's own rules do not say, two fields that contradict each other or a NaN."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        reasons = [": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors()]
        raise FieldIncorrect(param, "; ".join(reasons)) from error
