"""``GET /cells`` and ``/cells/{cellId}``: what the reference database holds."""

import math
import re
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_db.cell import CELL_ID_PATTERN
from reference_db.errors import ReferenceDatabaseError
from reference_db.manifest import Manifest
from reference_db.store import Store
from service.errors import CellNotFound, CellUnreadable
from service.schema import Point, WireStruct


class CellSummary(WireStruct, frozen=True, kw_only=True):
    cell_id: str
    version: str
    fingerprints: int
    created_at: datetime


class CellList(WireStruct, frozen=True, kw_only=True):
    cells: list[CellSummary]


class CellArray(WireStruct, frozen=True, kw_only=True):
    """Rows x columns of antennas, `spacing` wavelengths apart."""

    rows: int
    columns: int
    spacing: float


class CellDetail(WireStruct, frozen=True, kw_only=True):
    """One version of a cell. Metres and hertz; `yaw_deg`: the broadside, counter-clockwise from east."""

    cell_id: str
    version: str
    digest: str
    parent: str | None
    created_at: datetime
    note: str
    fingerprints: int
    point: Point
    height: float
    yaw_deg: float
    array: CellArray
    carrier_frequency: float
    bandwidth: float
    subcarriers: int
    quality: dict[str, Any]


class Cells:
    def __init__(self, store: Store) -> None:
        self._store = store

    def list_cells(self, request: Request) -> Response:
        """``GET /cells``"""
        manifests = [self._manifest(cell_id) for cell_id in self._store.cells()]
        summaries = [
            CellSummary(
                cell_id=manifest.cell.cell_id,
                version=manifest.version,
                fingerprints=fingerprints_in(manifest),
                created_at=manifest.created_at,
            )
            for manifest in manifests
        ]
        return Response(msgspec.json.encode(CellList(cells=summaries)), media_type="application/json")

    def show_cell(self, request: Request) -> Response:
        """``GET /cells/{cellId}``"""
        manifest = self._manifest(request.path_params["cell_id"])
        return Response(msgspec.json.encode(cell_detail(manifest)), media_type="application/json")

    def _manifest(self, cell_id: str) -> Manifest:
        try:
            manifest = self._store.current(cell_id) if re.fullmatch(CELL_ID_PATTERN, cell_id) else None
        except (ReferenceDatabaseError, OSError) as error:
            raise CellUnreadable("the cell's manifest cannot be read") from error
        if manifest is None:
            raise CellNotFound("/cellId", "no such cell")
        return manifest


def cell_detail(manifest: Manifest) -> CellDetail:
    """A manifest as the outside sees it."""
    cell = manifest.cell
    return CellDetail(
        cell_id=cell.cell_id,
        version=manifest.version,
        digest=manifest.digest,
        parent=manifest.parent,
        created_at=manifest.created_at,
        note=manifest.change.note,
        fingerprints=fingerprints_in(manifest),
        point=Point(lat=cell.latitude_deg, lon=cell.longitude_deg),
        height=cell.height,
        yaw_deg=math.degrees(cell.yaw),
        array=CellArray(rows=cell.array.rows, columns=cell.array.columns, spacing=cell.array.spacing),
        carrier_frequency=cell.carrier_frequency,
        bandwidth=cell.bandwidth,
        subcarriers=cell.subcarriers,
        quality=dict(manifest.quality),
    )


def fingerprints_in(manifest: Manifest) -> int:
    return sum(segment.count for segment in manifest.segments) - len(manifest.tombstones)
