"""``GET /models``: the artifacts that serve, and those that could."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import MateformerManifest, TrajectoryManifest
from service.artifacts.activation import Activation
from service.artifacts.catalogue import ArtifactFolders, Found, Unreadable
from service.cells.registry import ServedCells
from service.cells.trajectories import Trajectories
from service.inference.engine import MateformerEngine, TrajectoryEngine
from service.settings import Settings
from service.updates.legacy_wire import WireStruct
from service.updates.query import Query

State = Literal["active", "activating", "available"]


class ModelCsi(WireStruct, frozen=True, kw_only=True):
    """The channel that the network was made for; hertz."""

    antennas: int
    subcarriers: int
    carrier_frequency: float
    bandwidth: float


class Band(WireStruct, frozen=True, kw_only=True):
    """A channel on any of several carriers; hertz."""

    antennas: int
    subcarriers: int
    bandwidth: float


class _Model(WireStruct, frozen=True, kw_only=True):
    folder: Annotated[str, Meta(description="By which it is activated.")]
    state: Annotated[State, Meta(description="Of this replica: active is what locates users.")]
    configured: Annotated[bool, Meta(description="Whether the settings name it: it serves after a restart.")]
    name: str
    version: str
    digest: str
    created_at: str
    execution_providers: Annotated[list[str], Meta(description="That run it; none unless it is active.")]
    training_data_digest: str
    metrics: dict[str, float]
    opset: int


class Model(_Model, frozen=True, kw_only=True, tag_field="family", tag="mateformer"):
    """An artifact for any cell; `tile_pitch` in metres, `metrics` in metres on held-out data."""

    csi: ModelCsi
    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float


class Radii(WireStruct, frozen=True, kw_only=True):
    """Of circles that hold 95 % of the points, and of the centroids; metres."""

    vertex: float
    centroid: float


class CueRadii(WireStruct, frozen=True, kw_only=True):
    """By where the cues beside the CSI come from."""

    measured: Radii
    estimated: Radii


class TrajectoryModel(_Model, frozen=True, kw_only=True, tag_field="family", tag="scadf-moe"):
    """An artifact for trajectories in the cells that it has learned, on these carriers (hertz).

    It takes `vertices` snapshots, all of them measured within `radius` metres of one. `metrics` in metres on held-out
    data.
    """

    csi: Band
    carrier_frequencies: list[float]
    cells: list[str]
    vertices: int
    radius: float
    radii: CueRadii


class UnusableModel(WireStruct, frozen=True, kw_only=True):
    folder: str
    reason: str


class ModelList(WireStruct, frozen=True, kw_only=True):
    """The active ones first."""

    models: list[Model | TrajectoryModel]
    unusable: Annotated[list[UnusableModel], Meta(description="What cannot even be read.")]


class Models:
    def __init__(
        self,
        folders: ArtifactFolders,
        served: ServedCells,
        trajectories: Trajectories | None,
        activation: Activation,
        settings: Settings,
    ) -> None:
        self._folders = folders
        self._served = served
        self._trajectories = trajectories
        self._activation = activation
        named = (settings.artifact_directory, settings.trajectory_artifact_directory)
        self._configured = {path.absolute() for path in named if path is not None}

    async def list_models(self, request: Request) -> Response:
        """``GET /models``"""
        return _answer(await self._listed())

    async def activate(self, request: Request) -> Response:
        """``POST /models/{folder}:activate``; answers as `list_models`."""
        force = Query(request, "force").flag("force")
        await self._activation.activate(request.path_params["folder"], force=force)
        return _answer(await self._listed())

    async def _listed(self) -> ModelList:
        found = await asyncio.to_thread(self._folders.all)
        engines: list[MateformerEngine | TrajectoryEngine] = [
            self._served.engine,
            *([] if self._trajectories is None else [self._trajectories.engine]),
        ]
        active = {engine.artifact.digest for engine in engines}
        models = [
            self._model(one.directory.absolute(), one.manifest, one.digest, engine.session.providers)
            for engine in engines
            for one in [engine.artifact]
        ]
        others = [one for one in found if isinstance(one, Found) and one.digest not in active]
        return ModelList(
            models=models + [self._model(*one, []) for one in others],
            unusable=[UnusableModel(**one._asdict()) for one in found if isinstance(one, Unreadable)],
        )

    def _model(
        self, directory: Path, manifest: MateformerManifest | TrajectoryManifest, digest: str, providers: list[str]
    ) -> Model | TrajectoryModel:
        """Of an artifact that serves by some `providers`, or does not."""
        waits: State = "activating" if directory.name == self._activation.folder else "available"
        told: dict[str, Any] = {
            "folder": directory.name,
            "state": "active" if providers else waits,
            "configured": directory in self._configured,
            "digest": digest,
            "execution_providers": providers,
        }
        if isinstance(manifest, MateformerManifest):
            csi = ModelCsi(**manifest.csi.model_dump())
            return Model(**_said(manifest, Model, {"csi", *told}), **told, csi=csi)
        measured, estimated = (Radii(**one.model_dump()) for one in (manifest.radii.measured, manifest.radii.estimated))
        radii = CueRadii(measured=measured, estimated=estimated)
        band = Band(**manifest.csi.model_dump())
        return TrajectoryModel(
            **_said(manifest, TrajectoryModel, {"csi", "radii", *told}), **told, csi=band, radii=radii
        )


def _answer(listed: ModelList) -> Response:
    return Response(msgspec.json.encode(listed), media_type="application/json")


def _said(manifest: MateformerManifest | TrajectoryManifest, kind: type[_Model], apart: set[str]) -> dict[str, Any]:
    """What a manifest says in as many words."""
    return manifest.model_dump(include=set(kind.__struct_fields__) - apart)
