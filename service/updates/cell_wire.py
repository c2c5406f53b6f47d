"""Cells from the wire to the reference database, and back."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from fingerpost.wire_cells import (
    CellArea,
    CellArray,
    CellChange,
    CellCorrection,
    CellDescription,
    CellDetail,
    CellDrift,
    CellInput,
    CellModel,
    CellRetention,
    Place,
)
from reference_db.azimuth import to_azimuth, to_direction
from reference_db.cell import Area, Cell, describe_errors
from reference_db.cell_description import describe_sto, read_sto
from reference_db.manifest import Manifest
from reference_db.retention import Retention
from service.cells.drift import Drift
from service.errors import FieldIncorrect, shorten_name

M = TypeVar("M", bound=BaseModel)


def describe_cell(cell: Cell) -> CellDescription:
    return CellDescription(**_description_fields(cell))


def describe_retention(retention: Retention) -> CellRetention:
    return CellRetention(**retention.model_dump())


def describe_drift(drift: Drift | None) -> CellDrift | None:
    if drift is None:
        return None
    return CellDrift(
        signs=list(drift.signs),
        since=None if drift.since is None else datetime.fromtimestamp(drift.since, UTC),
        noticed=None if drift.noticed is None else datetime.fromtimestamp(drift.noticed, UTC),
        evidence=float(f"{drift.evidence:.3g}"),
        counted=drift.counted,
        turned_deg=None if drift.turn is None else round(-math.degrees(drift.turn), 1),
    )


def describe_version(manifest: Manifest, drift: Drift | None = None) -> CellDetail:
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
        quality=_describe_quality(manifest.quality),
        drift=describe_drift(drift),
    )


def read_cell_input(described: CellInput, cell_id: str) -> Cell:
    """The description of cell `cell_id`. Raises `FieldIncorrect`."""
    if described.cell_id not in (None, cell_id):
        raise FieldIncorrect(
            "/cell/cellId", f"describes cell {shorten_name(described.cell_id)!r}, not {shorten_name(cell_id)!r}"
        )
    converted = {"cell_id", "point", "azimuth_deg", "area", "survey_sto_ns", "user_sto_ns"}
    fields = described.model_dump(exclude=converted, by_alias=False) | {
        "cell_id": cell_id,
        "latitude_deg": described.point.lat,
        "longitude_deg": described.point.lon,
        "yaw": to_direction(described.azimuth_deg),
        "area": None if described.area is None else read_area(described.area, "/cell/area"),
        "survey_sto": read_sto(described.survey_sto_ns),
        "user_sto": read_sto(described.user_sto_ns),
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
    if correction.azimuth_deg is not None:
        fields["yaw"] = to_direction(correction.azimuth_deg)
    if correction.area is not None:
        fields["area"] = read_area(correction.area, "/area")
    for name, sto_ns in (("survey_sto", correction.survey_sto_ns), ("user_sto", correction.user_sto_ns)):
        if sto_ns is not None:
            fields[name] = read_sto(sto_ns)
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
        "azimuth_deg": to_azimuth(cell.yaw),
        "array": CellArray(**cell.array.model_dump()),
        "carrier_frequency": cell.carrier_frequency,
        "bandwidth": cell.bandwidth,
        "subcarriers": cell.subcarriers,
        "area": None if cell.area is None else CellArea(**cell.area.model_dump()),
        "survey_sto_ns": describe_sto(cell.survey_sto),
        "user_sto_ns": describe_sto(cell.user_sto),
    }


def _describe_quality(quality: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Without what only the service reads of a calibration: tens of kilobytes, with places of fingerprints."""
    described = dict(quality)
    calibrations = described.get("calibration")
    if isinstance(calibrations, dict):
        described["calibration"] = {
            digest: {name: value for name, value in one.items() if name not in ("belonging", "ellipses")}
            if isinstance(one, dict)
            else one
            for digest, one in calibrations.items()
        }
    return described
