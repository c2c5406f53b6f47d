"""``GET /openapi.json``: OpenAPI 3.1 out of the schemas, with examples that this service answers."""

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import ArtifactManifest
from reference_db.cell import CELL_ID_PATTERN, Cell
from reference_db.errors import ReferenceDatabaseError
from reference_db.geodesy import LocalFrame
from reference_db.store import Store
from service import schema
from service.cell_schema import CellDetail, CellList
from service.models import ModelList
from service.network import plane_waves
from service.problem import KINDS, PROBLEM_JSON

_Json = dict[str, Any]

_DESCRIPTION = """\
Locates a radio user from one snapshot of channel state information (CSI) and, where there is one, a coarse position.

Bodies are JSON or msgpack (`application/msgpack`, CSI as raw bytes); the answer comes in the format that
`Accept` asks for, by default that of the request. Every 4xx and 5xx is `application/problem+json` with a
machine-readable `cause` and, where a field is at fault, `invalidParams`."""

_CELL_HEADER: _Json = {
    "name": schema.CELL_HEADER,
    "in": "header",
    "required": False,
    "description": "The users' cell, where all are of one: a load balancer then sends them to the replica that has it "
    "in memory. The service itself goes by the body alone.",
    "schema": {"type": "string", "pattern": CELL_ID_PATTERN},
}

_ROOTS = (
    schema.LocateRequest,
    schema.LocateResponse,
    schema.BatchRequest,
    schema.BatchResponse,
    schema.Problem,
    CellList,
    CellDetail,
    ModelList,
)


class OpenApi:
    def __init__(self, manifest: ArtifactManifest, store: Store, batch_limit: int) -> None:
        self._manifest = manifest
        self._store = store
        self._batch_limit = batch_limit

    def endpoint(self, request: Request) -> Response:
        """``GET /openapi.json``"""
        return Response(msgspec.json.encode(self.document()), media_type="application/json")

    def document(self) -> _Json:
        _, components = msgspec.json.schema_components(_ROOTS, ref_template="#/components/schemas/{name}")
        batch = components["BatchRequest"]["properties"]["items"]
        batch |= {"minItems": 1, "maxItems": self._batch_limit}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Fingerpost",
                "version": "1",
                "description": _DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": self._paths(),
            "components": {"schemas": components},
        }

    def _paths(self) -> _Json:
        local, wgs84, alone = self._examples()
        return {
            "/locate": {
                "post": _operation(
                    "locate",
                    "Locate one user",
                    answer="LocateResponse",
                    body="LocateRequest",
                    examples={
                        "local coarse position": local,
                        "WGS84 coarse position": wgs84,
                        "no coarse position": alone,
                    },
                )
            },
            "/locate/batch": {
                "post": _operation(
                    "locateBatch",
                    "Locate many users, each with a location or a problem of its own",
                    answer="BatchResponse",
                    body="BatchRequest",
                    examples={"three users": {"items": [local, wgs84, alone]}},
                )
            },
            "/cells": {"get": _operation("listCells", "List the cells", answer="CellList")},
            "/cells/{cellId}": {
                "get": _operation("showCell", "Show a cell", answer="CellDetail")
                | {
                    "parameters": [
                        {
                            "name": "cellId",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string"},
                            "example": local["cellId"],
                        }
                    ]
                }
            },
            "/models": {"get": _operation("listModels", "List the models", answer="ModelList")},
            "/health/live": {"get": _plain("live", "Whether the process answers", "application/json")},
            "/health/ready": {"get": _plain("ready", "Whether users can be located", "application/json")},
            "/metrics": {"get": _plain("metrics", "Prometheus metrics", "text/plain")},
        }

    def _examples(self) -> tuple[_Json, _Json, _Json]:
        """Made-up CSI in a cell that is there: they work as they stand and give no fingerprint away."""
        csi = self._manifest.csi
        wave = plane_waves(csi.antennas, csi.subcarriers, 1).astype("<f2")
        cell_id, x, y, lat, lon = "cell", 0.0, 0.0, 0.0, 0.0
        if found := self._a_cell():
            cell, (west, south, east, north) = found
            cell_id, x, y = cell.cell_id, round((west + east) / 2, 1), round((south + north) / 2, 1)
            lat, lon = LocalFrame(cell.latitude_deg, cell.longitude_deg).to_wgs84(x, y)
        sent = {"encoding": "complex32", "shape": [csi.antennas, csi.subcarriers], "data": wave.tobytes()}
        alone = {"cellId": cell_id, "csi": sent}
        local = alone | {"coarsePosition": {"x": x, "y": y, "hAccuracy": 1.0}}
        place = {"lat": round(lat, 7), "lon": round(lon, 7), "hAccuracy": 1.0}
        wgs84 = local | {"coarsePosition": place, "hAccuracy": 2.0, "requestId": "example"}
        return msgspec.to_builtins(local), msgspec.to_builtins(wgs84), msgspec.to_builtins(alone)

    def _a_cell(self) -> tuple[Cell, list[float]] | None:
        """A cell that the artifact serves, and the extent of its fingerprints."""
        csi = self._manifest.csi
        for cell_id in self._store.cells():
            try:
                manifest = self._store.current(cell_id)
            except ReferenceDatabaseError:
                continue
            if manifest is None or manifest.fingerprints < self._manifest.neighbourhood_size:
                continue
            survey = manifest.quality.get("survey")
            fits = (manifest.cell.antennas, manifest.cell.subcarriers) == (csi.antennas, csi.subcarriers)
            if fits and isinstance(survey, dict):
                return manifest.cell, msgspec.convert(survey["extent"], list[float])
        return None


def _operation(name: str, summary: str, answer: str, body: str | None = None, examples: _Json | None = None) -> _Json:
    operation: _Json = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": _content(answer)}},
            **_problems(),
        },
    }
    if body is not None:
        operation["parameters"] = [_CELL_HEADER]
        named = {title: {"value": value} for title, value in (examples or {}).items()}
        operation["responses"]["200"]["content"]["application/msgpack"] = _content(answer)
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": _content(body) | {"examples": named},
                "application/msgpack": _content(body),
            },
        }
    return operation


def _plain(name: str, summary: str, media_type: str) -> _Json:
    answer = {"description": summary, "content": {media_type: {}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **_problems()}}


def _content(name: str) -> _Json:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _problems() -> _Json:
    """Every cause is listed under its status class."""
    kinds: dict[str, list[str]] = {"4XX": [], "5XX": []}
    for status, cause in KINDS.values():
        kinds["5XX" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "4XX"].append(cause)
    return {
        family: {
            "description": "`cause` is one of: " + ", ".join(sorted(causes)) + ".",
            "content": {PROBLEM_JSON: _content("Problem")},
        }
        for family, causes in kinds.items()
    }
