"""``GET /models``: the artifact that serves."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import Artifact
from service.schema import WireStruct


class ModelCsi(WireStruct, frozen=True, kw_only=True):
    """The channel that the network was made for; hertz."""

    antennas: int
    subcarriers: int
    carrier_frequency: float
    bandwidth: float


class Model(WireStruct, frozen=True, kw_only=True):
    """An artifact; `tile_pitch` in metres, `metrics` in metres on held-out data."""

    name: str
    family: str
    version: str
    digest: str
    created_at: str
    active: bool
    execution_providers: list[str]
    csi: ModelCsi
    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float
    training_data_digest: str
    metrics: dict[str, float]
    opset: int


class ModelList(WireStruct, frozen=True, kw_only=True):
    models: list[Model]


class Models:
    def __init__(self, artifact: Artifact, providers: Sequence[str]) -> None:
        manifest = artifact.manifest
        fields = manifest.model_dump(include=set(Model.__struct_fields__) - {"csi", "execution_providers"})
        csi = ModelCsi(**manifest.csi.model_dump())
        model = Model(**fields, digest=artifact.digest, active=True, csi=csi, execution_providers=list(providers))
        self._answer = msgspec.json.encode(ModelList(models=[model]))

    async def list_models(self, request: Request) -> Response:
        """``GET /models``"""
        return Response(self._answer, media_type="application/json")
