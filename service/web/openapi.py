"""``GET /openapi.json``: OpenAPI 3.1 out of the schemas, with examples that this service answers."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fingerpost import wire as schema
from fingerpost.wire_trajectory import TrajectoryRequest, TrajectoryResponse
from models.artifact import TrajectoryManifest
from reference_db.cell import Cell
from reference_db.errors import ReferenceDatabaseError
from reference_db.geodesy import LocalFrame
from reference_db.stores.store import Store
from service.artifacts.catalogue import FOLDER_PATTERN
from service.artifacts.router import ModelList
from service.cells.registry import ServedCells
from service.cells.trajectories import Trajectories
from service.cells.trajectory_cells import check_learned
from service.errors import ServiceError
from service.inference.session import plane_waves
from service.telemetry.latency import Latency
from service.updates.openapi_cells import CELL_ROOTS, cell_paths
from service.web.openapi_operation import Json, operation, parameter, plain
from service.web.openapi_security import secured

_DESCRIPTION = """\
Locates a radio user from one snapshot of channel state information (CSI) and, where there is one, a coarse position;
or from several snapshots together, at places that the network has learned.

Bodies are JSON or msgpack (`application/msgpack`, CSI as raw bytes); the answer comes in the format that
`Accept` asks for, by default that of the request. Every 4xx and 5xx is `application/problem+json` with a
machine-readable `cause` and, where a field is at fault, `invalidParams`."""

_CELL_HEADER: Json = {
    "name": schema.CELL_HEADER,
    "in": "header",
    "required": False,
    "description": "The users' cell, where all are of one: a load balancer then sends them to the replica that has it "
    "in memory. The service itself goes by the body alone.",
    "schema": {"type": "string"},
}

_ACTIVATION_SAID = """\
It is loaded and tried aside, the cells in memory are calibrated for it and the tiles in use encoded; then it takes the
place of the one of its family at once. Takes seconds a cell in memory. Of the replica that is asked, until it ends:
what serves after a restart is `configured`."""

_ROOTS = (
    schema.LocateRequest,
    schema.LocateResponse,
    schema.BatchRequest,
    schema.BatchResponse,
    schema.Problem,
    TrajectoryRequest,
    TrajectoryResponse,
    ModelList,
    Latency,
    *CELL_ROOTS,
)


class OpenApi:
    def __init__(
        self,
        served: ServedCells,
        trajectories: Trajectories | None,
        store: Store,
        batch_limit: int,
        *,
        keyed: bool,
    ) -> None:
        self._served = served
        self._trajectories = trajectories
        self._store = store
        self._batch_limit = batch_limit
        self._keyed = keyed

    def endpoint(self, request: Request) -> Response:
        """``GET /openapi.json``"""
        return Response(msgspec.json.encode(self.document()), media_type="application/json")

    def document(self) -> Json:
        _, components = msgspec.json.schema_components(_ROOTS, ref_template="#/components/schemas/{name}")
        batch = components["BatchRequest"]["properties"]["items"]
        batch |= {"minItems": 1, "maxItems": self._batch_limit}
        document = {
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
        return secured(document) if self._keyed else document

    def _paths(self) -> Json:
        local, wgs84, alone = self._examples()
        return {
            "/locate": {
                "post": operation(
                    "locate",
                    "Locate one user",
                    answer="LocateResponse",
                    body="LocateRequest",
                    parameters=[_CELL_HEADER],
                    examples={
                        "local coarse position": local,
                        "WGS84 coarse position": wgs84,
                        "no coarse position": alone,
                    },
                )
            },
            "/locate/batch": {
                "post": operation(
                    "locateBatch",
                    "Locate many users, each with a location or a problem of its own",
                    answer="BatchResponse",
                    body="BatchRequest",
                    parameters=[_CELL_HEADER],
                    examples={"three users": {"items": [local, wgs84, alone]}},
                )
            },
            "/locate/trajectory": {
                "post": operation(
                    "locateTrajectory",
                    "Locate one user at several points near each other, by all of them together",
                    answer="TrajectoryResponse",
                    body="TrajectoryRequest",
                    parameters=[_CELL_HEADER],
                    examples=self._trajectory_examples(),
                )
            },
            **cell_paths(local["cellId"]),
            "/models": {"get": operation("listModels", "List the models", answer="ModelList")},
            "/models/{folder}:activate": {"post": _activation(self._served.engine.artifact.directory.name)},
            "/health/live": {"get": plain("live", "Whether the process answers", "application/json")},
            "/health/ready": {"get": plain("ready", "Whether users can be located", "application/json")},
            "/latency": {"get": operation("showLatency", "Show how long stages take", answer="Latency")},
            "/metrics": {"get": plain("metrics", "Prometheus metrics", "text/plain")},
        }

    def _examples(self) -> tuple[Json, Json, Json]:
        """Made-up CSI in a cell that is there: they work as they stand and give no fingerprint away."""
        csi = self._served.engine.artifact.manifest.csi
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

    def _trajectory_examples(self) -> Json:
        """Made-up CSI in a learned cell that is there."""
        learned = None if self._trajectories is None else self._trajectories.engine.artifact.manifest
        cell_id = None if learned is None else self._a_learned_cell(learned)
        if learned is None or cell_id is None:
            return {}
        csi = learned.csi
        waves = plane_waves(csi.antennas, csi.subcarriers, learned.vertices).astype("<f2")
        sent: list[Json] = [
            {"csi": {"encoding": "complex32", "shape": [csi.antennas, csi.subcarriers], "data": wave.tobytes()}}
            for wave in waves
        ]
        cues = {"aodDeg": 12.5, "aoaDeg": -167.5, "distance": 61.0, "gainDb": -84.0}
        alone = {"cellId": cell_id, "snapshots": sent}
        measured = {"cellId": cell_id, "snapshots": [one | {"cues": cues} for one in sent]}
        return {"cues measured": msgspec.to_builtins(measured), "cues from the CSI": msgspec.to_builtins(alone)}

    def _a_learned_cell(self, learned: TrajectoryManifest) -> str | None:
        for cell_id in learned.cells:
            try:
                manifest = self._store.current(cell_id)
                if manifest is not None:
                    check_learned(learned, manifest)
                    return cell_id
            except (ReferenceDatabaseError, ServiceError):
                continue
        return None

    def _a_cell(self) -> tuple[Cell, list[float]] | None:
        """A cell that the artifact serves, and the extent of its fingerprints."""
        artifact = self._served.engine.artifact.manifest
        csi = artifact.csi
        for cell_id in self._store.cells():
            try:
                manifest = self._store.current(cell_id)
            except ReferenceDatabaseError:
                continue
            if manifest is None or manifest.fingerprints < artifact.neighbourhood_size:
                continue
            survey = manifest.quality.get("survey")
            fits = (manifest.cell.antennas, manifest.cell.subcarriers) == (csi.antennas, csi.subcarriers)
            if fits and isinstance(survey, dict):
                return manifest.cell, msgspec.convert(survey["extent"], list[float])
        return None


def _activation(example: str) -> Json:
    force = "Activate it even if users would be located far worse."
    return operation(
        "activateModel",
        "Have another artifact locate users",
        answer="ModelList",
        parameters=[
            parameter("path", "folder", "As the list has it.", {"type": "string", "pattern": FOLDER_PATTERN}, example),
            parameter("query", "force", force, {"type": "boolean", "default": False}),
        ],
    ) | {"description": _ACTIVATION_SAID}
