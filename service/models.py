"""``GET /models``: the artifacts that serve."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import Artifact, TrajectoryArtifact
from service.schema import WireStruct


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
    name: str
    version: str
    digest: str
    created_at: str
    active: bool
    execution_providers: list[str]
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


class ModelList(WireStruct, frozen=True, kw_only=True):
    models: list[Model | TrajectoryModel]


class Models:
    def __init__(self, artifact: Artifact, learned: TrajectoryArtifact | None, providers: Sequence[str]) -> None:
        models: list[Model | TrajectoryModel] = [_model(artifact, providers)]
        if learned is not None:
            models.append(_trajectory_model(learned, providers))
        self._answer = msgspec.json.encode(ModelList(models=models))

    async def list_models(self, request: Request) -> Response:
        """``GET /models``"""
        return Response(self._answer, media_type="application/json")


def _model(artifact: Artifact, providers: Sequence[str]) -> Model:
    manifest = artifact.manifest
    told = _told(artifact, Model, {"csi"})
    return Model(**told, execution_providers=list(providers), csi=ModelCsi(**manifest.csi.model_dump()))


def _trajectory_model(artifact: TrajectoryArtifact, providers: Sequence[str]) -> TrajectoryModel:
    manifest = artifact.manifest
    told = _told(artifact, TrajectoryModel, {"csi", "radii"})
    radii = CueRadii(
        measured=Radii(**manifest.radii.measured.model_dump()), estimated=Radii(**manifest.radii.estimated.model_dump())
    )
    csi = Band(**manifest.csi.model_dump())
    return TrajectoryModel(**told, execution_providers=list(providers), csi=csi, radii=radii)


def _told(artifact: Artifact | TrajectoryArtifact, kind: type[_Model], apart: set[str]) -> dict[str, Any]:
    """What a manifest says in as many words, its digest, and that it serves."""
    named = set(kind.__struct_fields__) - {"digest", "active", "execution_providers"} - apart
    return artifact.manifest.model_dump(include=named) | {"digest": artifact.digest, "active": True}
