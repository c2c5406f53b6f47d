"""Which fingerprints of a cell an operator means."""

from datetime import datetime
from typing import Annotated

import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from reference_db.contents import Contents
from reference_db.geodesy import LocalFrame
from service.errors import FieldIncorrect
from service.updates.cell_input import area_from
from service.updates.cell_wire import CellArea
from service.updates.legacy_wire import Latitude, Longitude, WireStruct

FingerprintName = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$", description="A fingerprint's id.")]


class _Struct(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Circle(_Struct, frozen=True, kw_only=True):
    """Metres around a place."""

    lat: Latitude
    lon: Longitude
    radius: Annotated[float, Meta(gt=0, le=1e6)]


class Selection(_Struct, frozen=True, kw_only=True):
    """The fingerprints that meet all criteria given, at least one."""

    ids: Annotated[list[FingerprintName], Meta(min_length=1)] | UnsetType = UNSET
    area: CellArea | UnsetType = UNSET
    circle: Circle | UnsetType = UNSET
    measured_before: (
        Annotated[datetime, Meta(tz=True, description="Those of unknown time are not meant.")] | UnsetType
    ) = UNSET
    unknown_time: Annotated[
        bool, Meta(description="Those of unknown time are meant; with measuredBefore beside those measured before.")
    ] = False


def selected(selection: Selection, contents: Contents) -> NDArray[np.bool_]:
    """Which fingerprints are meant: bool `[n]` in the order of `contents.ids`.

    Raises `FieldIncorrect`, also for a selection without a criterion.
    """
    criteria: list[NDArray[np.bool_]] = []
    if selection.ids is not UNSET:
        criteria.append(np.isin(contents.ids, np.array([int(name, 16) for name in selection.ids], np.uint64)))
    if selection.area is not UNSET:
        criteria.append(area_from(selection.area, "/area").holds(contents.positions))
    if selection.circle is not UNSET:
        cell = contents.manifest.cell
        middle = LocalFrame(cell.latitude_deg, cell.longitude_deg).to_local(selection.circle.lat, selection.circle.lon)
        criteria.append(np.hypot(*(contents.positions - np.array(middle)).T) <= selection.circle.radius)
    if selection.measured_before is not UNSET or selection.unknown_time:
        limit = 0.0 if selection.measured_before is UNSET else selection.measured_before.timestamp()
        unknown = contents.times == 0
        criteria.append(np.where(unknown, selection.unknown_time, contents.times < limit))
    if not criteria:
        raise FieldIncorrect("", "none of ids, area, circle, measuredBefore and unknownTime is given")
    meant: NDArray[np.bool_] = np.logical_and.reduce(criteria)
    return meant


def names_of(ids: NDArray[np.uint64]) -> list[str]:
    """Ids `[n]` as the outside knows them."""
    return [f"{name:016x}" for name in ids.tolist()]
