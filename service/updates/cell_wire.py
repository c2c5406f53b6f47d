"""Cells as they go over the wire."""

import math
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from reference_db.cell import Cell
from reference_db.manifest import Manifest, ModelPolicy
from reference_db.retention import Retention
from service.updates.legacy_wire import Dimension, Latitude, Longitude, WireStruct

_YAW_DECIMALS = 9  # so that degrees read, and sent again, are the same degrees


class _Struct(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Place(_Struct, frozen=True, kw_only=True):
    lat: Latitude
    lon: Longitude


class CellArray(_Struct, frozen=True, kw_only=True):
    """Rows x columns of antennas, `spacing` wavelengths apart."""

    rows: Annotated[int, Meta(ge=1, le=256)]
    columns: Annotated[int, Meta(ge=1, le=256)]
    spacing: Annotated[float, Meta(gt=0, le=100)] = 0.5


class CellArea(_Struct, frozen=True, kw_only=True):
    """A rectangle, its edges included; metres east and north of the base station."""

    west: float
    south: float
    east: float
    north: float


class CellDescription(_Struct, frozen=True, kw_only=True):
    """A base station and its channel. Metres, hertz; `yaw_deg`: the array's broadside, counter-clockwise from east."""

    point: Place
    height: Annotated[float, Meta(ge=-1e3, le=1e5)]
    yaw_deg: Annotated[float, Meta(ge=-360, le=360)]
    array: CellArray
    carrier_frequency: Annotated[float, Meta(ge=1e6, le=1e12)]
    bandwidth: Annotated[float, Meta(gt=0)]
    subcarriers: Dimension
    area: Annotated[CellArea | None, Meta(description="Where stated no fingerprint may lie outside it.")] = None


class CellRetention(_Struct, frozen=True, kw_only=True):
    """How long a cell keeps its fingerprints; what is null or absent keeps everything."""

    max_age_s: (
        Annotated[
            float,
            Meta(gt=0, description="Since they were measured; those of unknown time never grow old.", examples=[2.6e6]),
        ]
        | None
    ) = None
    max_fingerprints: Annotated[int, Meta(ge=1, description="Of more the newest stay.", examples=[50000])] | None = None
    min_spacing_m: (
        Annotated[
            float, Meta(gt=0, le=1000, description="Of those nearer to each other the newer stays.", examples=[0.2])
        ]
        | None
    ) = None


class CellModel(_Struct, frozen=True, kw_only=True):
    """Which networks may locate users in a cell."""

    policy: Annotated[
        ModelPolicy,
        Meta(
            description="`mateformer`: by comparing them with fingerprints; `scadf-moe`: by several of their snapshots "
            "together, at places that it has learned; `auto`: so where there are enough snapshots and the artifact "
            "serves the cell, else by fingerprints."
        ),
    ]


class CellChange(_Struct, frozen=True, kw_only=True):
    """What made a version: `added` and `removed` count fingerprints."""

    action: str
    added: int
    removed: int
    author: str
    note: str


class CellDetail(CellDescription, frozen=True, kw_only=True):
    """One version of a cell."""

    cell_id: str
    version: str
    digest: str
    parent: str | None
    created_at: datetime
    change: CellChange
    retention: CellRetention
    model: CellModel
    fingerprints: int
    quality: dict[str, Any]


class CellSummary(_Struct, frozen=True, kw_only=True):
    cell_id: str
    version: str
    fingerprints: int
    created_at: datetime
    author: str
    note: str


class CellList(_Struct, frozen=True, kw_only=True):
    cells: list[CellSummary]
    unreadable: Annotated[list[str], Meta(description="Cells that are there, but damaged.")] | UnsetType = UNSET


def description_of(cell: Cell) -> CellDescription:
    """A cell as the outside sees it."""
    return CellDescription(**_described(cell))


def retention_of(retention: Retention) -> CellRetention:
    """A retention as the outside sees it."""
    return CellRetention(**retention.model_dump())


def detail_of(manifest: Manifest) -> CellDetail:
    return CellDetail(
        **_described(manifest.cell),
        cell_id=manifest.cell.cell_id,
        version=manifest.version,
        digest=manifest.digest,
        parent=manifest.parent,
        created_at=manifest.created_at,
        change=CellChange(**manifest.change.model_dump(exclude={"request"})),
        retention=retention_of(manifest.retention),
        model=CellModel(policy=manifest.model),
        fingerprints=manifest.fingerprints,
        quality=dict(manifest.quality),
    )


def _described(cell: Cell) -> dict[str, Any]:
    return {
        "point": Place(lat=cell.latitude_deg, lon=cell.longitude_deg),
        "height": cell.height,
        "yaw_deg": round(math.degrees(cell.yaw), _YAW_DECIMALS),
        "array": CellArray(**cell.array.model_dump()),
        "carrier_frequency": cell.carrier_frequency,
        "bandwidth": cell.bandwidth,
        "subcarriers": cell.subcarriers,
        "area": None if cell.area is None else CellArea(**cell.area.model_dump()),
    }
