"""Outlines of streets and buildings around cells, from a GeoJSON file of the operator."""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import Field

from fingerpost.wire_model import WireModel
from reference_db.geodesy import LocalFrame
from reference_db.manifest import Manifest
from service.errors import CellNotFound, UnknownField
from service.updates.change_request import STORE_ERRORS
from service.updates.history import find_current_version
from service.updates.parameters import UpdatesPublisher
from service.web.parameters import CellName
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

_AROUND_M = 300.0  # beyond a cell's fingerprints
_MOST_POINTS = 50_000
# How deep the coordinates of a geometry are nested below its lines.
_DEPTHS = {"LineString": 0, "MultiLineString": 1, "Polygon": 1, "MultiPolygon": 2}


class OutlinesUnreadable(Exception):
    """The file of outlines is missing or is no GeoJSON. The text is fit to show to a person."""


class Outlines(WireModel):
    """Lines around a cell, each a list of points: metres east and north of the base station."""

    lines: list[list[tuple[float, float]]]
    complete: Annotated[bool, Field(description="false: there are more lines than the answer may have.")]


class OutlineFile(NamedTuple):
    """`lines`: `[n, 2]` degrees, longitude and latitude, of each line. `bounds`: `[lines, 4]`, west to north."""

    lines: list[NDArray[np.float64]]
    bounds: NDArray[np.float64]

    def around(self, manifest: Manifest) -> Outlines:
        """The lines near the fingerprints of a version, or near its base station if it has none."""
        cell = manifest.cell
        frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
        survey = manifest.quality.get("survey")
        extent: Any = survey["extent"] if isinstance(survey, dict) else (0.0, 0.0, 0.0, 0.0)
        west, south = frame.to_wgs84(min(0.0, extent[0]) - _AROUND_M, min(0.0, extent[1]) - _AROUND_M)[::-1]
        east, north = frame.to_wgs84(max(0.0, extent[2]) + _AROUND_M, max(0.0, extent[3]) + _AROUND_M)[::-1]
        near = (
            (self.bounds[:, 0] <= east)
            & (self.bounds[:, 2] >= west)
            & (self.bounds[:, 1] <= north)
            & (self.bounds[:, 3] >= south)
        )
        found: list[list[tuple[float, float]]] = []
        points = 0
        for row in np.flatnonzero(near):
            line = self.lines[row]
            points += len(line)
            if points > _MOST_POINTS:
                return Outlines(lines=found, complete=False)
            local = np.round(np.column_stack(frame.to_local(line[:, 1], line[:, 0])), 2)
            found.append([(x, y) for x, y in local.tolist()])
        return Outlines(lines=found, complete=True)


def read_outlines(path: Path) -> OutlineFile:
    """Reads the lines and the edges of polygons of a GeoJSON file (RFC 7946: WGS84). Raises `OutlinesUnreadable`."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise OutlinesUnreadable(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise OutlinesUnreadable(f"{path}: not JSON: {error}") from error
    lines: list[NDArray[np.float64]] = []
    for number, geometry in enumerate(_geometries(document)):
        try:
            lines += _lines(geometry)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise OutlinesUnreadable(f"{path}: geometry {number} is no GeoJSON in WGS84 degrees") from error
    if not lines:
        raise OutlinesUnreadable(f"{path}: no lines or polygons; is it a GeoJSON FeatureCollection?")
    bounds = np.array([[*line.min(axis=0), *line.max(axis=0)] for line in lines])
    return OutlineFile(lines, bounds)


def _geometries(document: Any) -> list[Any]:
    match document:
        case {"type": "FeatureCollection", "features": list(features)}:
            return [found for one in features for found in _geometries(one)]
        case {"type": "Feature", "geometry": dict(geometry)}:
            return _geometries(geometry)
        case {"type": "GeometryCollection", "geometries": list(geometries)}:
            return [found for one in geometries for found in _geometries(one)]
        case {"type": str(kind)} if kind in _DEPTHS:
            return [document]
        case _:  # points have no outline
            return []


def _lines(geometry: Any) -> list[NDArray[np.float64]]:
    """Raises `ValueError` and others for what is no line of longitudes and latitudes."""
    parts = [geometry["coordinates"]]
    for _ in range(_DEPTHS[geometry["type"]]):
        parts = [line for part in parts for line in part]
    lines = [np.array([place[:2] for place in part], np.float64).reshape(-1, 2) for part in parts if part]
    for line in lines:
        if not np.isfinite(line).all() or (np.abs(line) > (180, 90)).any():
            raise ValueError("not degrees")
    return lines


router = APIRouter(route_class=ApiRoute, include_in_schema=False)


@router.get("/console/outlines/{cellId}", responses=problem_responses(CellNotFound, UnknownField, *STORE_ERRORS))
async def show_outlines(request: Request, cell_id: CellName, publisher: UpdatesPublisher) -> Outlines:
    """No lines where the settings name no file."""
    file: OutlineFile | None = request.app.state.outlines
    manifest = await publisher.read(find_current_version, publisher.store, cell_id)
    if file is None:
        return Outlines(lines=[], complete=True)
    return await publisher.read(file.around, manifest)
