"""The artifact: the directory that the trainer writes and the service loads. This module never imports torch.

An artifact holds ONNX graphs (each a single file without external data), ``artifact.json``, which describes the graphs
and lists their hashes, and a model card. The sha256 of ``artifact.json`` identifies the artifact: it covers the hash of
every graph.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeAlias, TypeVar, overload

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from models.frozen import FrozenModel

if TYPE_CHECKING:
    from typing_extensions import TypeIs

SCHEMA_VERSION = 1
MANIFEST_FILE = "artifact.json"
RADII_CONFIDENCE = 0.95

Tensor = TypeVar("Tensor")


class ArtifactError(Exception):
    """An artifact cannot be trusted or used."""


class ArtifactMissing(ArtifactError):
    """A file of the artifact is missing or unreadable."""


class BadManifest(ArtifactError):
    """``artifact.json`` does not follow a schema that this version knows."""


class HashMismatch(ArtifactError):
    """The sha256 of a graph differs from the one in the manifest."""


class BadGraph(ArtifactError):
    """The hash of a graph is right, but the file is not ONNX."""


class ExternalData(ArtifactError):
    """A graph refers to tensors outside its own file."""


class WrongFamily(ArtifactError):
    """The artifact is valid, but belongs to another model family than the caller needs."""


class TensorSpec(FrozenModel):
    """An input or output of a graph. A name in ``shape`` is a free dimension."""

    name: str
    dtype: str
    shape: list[int | str]

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape with each free dimension replaced by its size."""
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.shape)


class Graph(FrozenModel):
    """An ONNX file with its inputs and outputs.

    Frames are stored in pools: inputs whose first free dimension is called ``pool``. The graph that encodes frames
    returns each pool as an output (see `written`) and changes only the requested slots, so input and output may share
    memory.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    def taken(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs that this graph takes. Some models do not use a coarse position, for example."""
        return {spec.name: inputs[spec.name] for spec in self.inputs}

    @property
    def pools(self) -> list[TensorSpec]:
        return [spec for spec in self.inputs if spec.shape[:1] == ["pool"]]


def written(pool: str) -> str:
    """The name of the graph output that returns a pool."""
    return f"written_{pool}"


class CsiContract(FrozenModel):
    """The channel that the model was trained on. Frequencies in hertz."""

    antennas: int = Field(gt=0)
    subcarriers: int = Field(gt=0)
    carrier_frequency: float = Field(gt=0)
    bandwidth: float = Field(gt=0)


class BandContract(FrozenModel):
    """The channel of a model that serves several carriers. ``bandwidth`` in hertz."""

    antennas: int = Field(gt=0)
    subcarriers: int = Field(gt=0)
    bandwidth: float = Field(gt=0)


class BaseManifest(FrozenModel):
    """The fields of ``artifact.json`` that every family has.

    A family adds ``family: Literal["its name"]`` and what the service must know to run the model. ``metrics`` are
    metres on held-out data.
    """

    schema_version: Literal[1]
    family: str
    name: str
    version: str
    created_at: str
    graphs: dict[str, Graph] = Field(min_length=1)
    training_data_digest: str
    metrics: dict[str, float]
    opset: int
    exporter: str


class MateformerManifest(BaseManifest):
    """``artifact.json`` of a model that compares a user with fingerprints.

    The service fetches ``neighbourhood_size`` fingerprints for a request and never uses fewer than
    ``minimum_neighbours``. It locates a user ``passes`` times and fetches the neighbourhood again around the previous
    estimate. ``tile_pitch`` (metres) is the coarsest grid that a coarse position may be snapped to without a loss of
    accuracy.
    """

    family: Literal["mateformer"]
    csi: CsiContract
    neighbourhood_size: int = Field(gt=0)
    minimum_neighbours: int = Field(gt=0)
    passes: int = Field(gt=0)
    tile_pitch: float = Field(ge=0)

    def fewest_fingerprints(self, confidence: float) -> int:
        """The fewest fingerprints of a cell that can be served with error radii of this confidence, between 0 and 1."""
        return max(self.minimum_neighbours, fewest_for_radius(confidence))


def fewest_for_radius(confidence: float) -> int:
    """The smallest n for which n errors have a finite conformal quantile: ceil((n + 1) · confidence) is at most n."""
    # The tolerance keeps 0.95 / 0.05 at 19: in binary the quotient is slightly larger.
    return max(1, math.ceil(confidence / (1 - confidence) - 1e-9))


class Radii(FrozenModel):
    """Error radii in metres that hold for `RADII_CONFIDENCE` of all trajectories: of a vertex and of the centroid."""

    vertex: float = Field(gt=0)
    centroid: float = Field(gt=0)


class PathFeatureRadii(FrozenModel):
    """Error radii by the source of the path features: measured by the base station, or estimated from the CSI."""

    measured: Radii
    estimated: Radii


class TrajectoryManifest(BaseManifest):
    """``artifact.json`` of a model that locates short trajectories in the cells that it was trained on.

    The only graph is ``full``. Input ``csi`` is float32 `[batch, vertices, antennas, subcarriers, 2]`. Input ``cues``
    is float32 `[batch, vertices, 4]` and holds the path features: AoD and AoA (azimuths in radians, counter-clockwise
    from east), range (length of the strongest path, metres) and large-scale gain (linear power). The tensor keeps the
    name ``cues`` because shipped graphs use it. Output ``positions`` is float32 `[batch, vertices + 1, 2]`: each
    vertex, then the centroid, in metres east and north of the base station.

    The model is valid for the named `cells` on the `carrier_frequencies` (hertz), and for points within `radius`
    metres of one of them.
    """

    family: Literal["scadf-moe"]
    csi: BandContract
    carrier_frequencies: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    cells: tuple[str, ...] = Field(min_length=1)
    vertices: int = Field(gt=1)
    radius: float = Field(gt=0)
    radii: PathFeatureRadii

    @field_validator("graphs")
    @classmethod
    def _has_one_graph(cls, graphs: dict[str, Graph]) -> dict[str, Graph]:
        if graphs.keys() != {"full"}:
            raise ValueError("the only graph must be 'full'")
        return graphs


Manifest: TypeAlias = MateformerManifest | TrajectoryManifest  # the families that the service can run
M_co = TypeVar("M_co", bound=BaseManifest, covariant=True)


@dataclass(frozen=True)
class Artifact(Generic[M_co]):
    """A checked artifact: every graph is present, has the right hash and needs no other file."""

    directory: Path
    manifest: M_co
    digest: str  # sha256 of artifact.json, hex
    graphs: dict[str, bytes]


MateformerArtifact: TypeAlias = Artifact[MateformerManifest]
TrajectoryArtifact: TypeAlias = Artifact[TrajectoryManifest]

_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="family")])


def is_mateformer(artifact: MateformerArtifact | TrajectoryArtifact | None) -> TypeIs[MateformerArtifact]:
    return artifact is not None and isinstance(artifact.manifest, MateformerManifest)


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest of an artifact and its digest, without checking the graphs.

    Raises `ArtifactMissing` or `BadManifest`.
    """
    return _read_manifest(directory, _MANIFEST)


@overload
def load_artifact(directory: Path) -> MateformerArtifact | TrajectoryArtifact: ...


@overload
def load_artifact(directory: Path, wanted: type[M_co]) -> Artifact[M_co]: ...


def load_artifact(directory: Path, wanted: type[BaseManifest] | None = None) -> Artifact[Any]:
    """Reads and checks an artifact. ``wanted`` is the manifest class of the family that the caller needs.

    Without ``wanted``, any family that the service can run is accepted. Raises `ArtifactMissing`, `BadManifest`,
    `HashMismatch`, `BadGraph`, `ExternalData` or `WrongFamily`; all of them are `ArtifactError`.
    """
    # A family that the service cannot run yet has its manifest class in its own package.
    adapter = _MANIFEST if wanted is None or issubclass(wanted, Manifest) else TypeAdapter(wanted)
    manifest, digest = _read_manifest(directory, adapter)
    if wanted is not None and not isinstance(manifest, wanted):
        (family,) = wanted.model_fields["family"].annotation.__args__  # type: ignore[union-attr]
        raise WrongFamily(f"{directory} is of the family {manifest.family}, not {family}")
    graphs = {name: _read_graph(directory / graph.file, graph) for name, graph in manifest.graphs.items()}
    return Artifact(directory, manifest, digest, graphs)


def _read_manifest(directory: Path, adapter: TypeAdapter[Any]) -> tuple[Any, str]:
    content = _read(directory / MANIFEST_FILE)
    try:
        manifest = adapter.validate_json(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = (": ".join([*[".".join(map(str, one["loc"]))] * bool(one["loc"]), one["msg"]]) for one in wrong)
        raise BadManifest(f"{directory / MANIFEST_FILE}: {'; '.join(reasons)}") from error
    return manifest, hashlib.sha256(content).hexdigest()


def _read_graph(path: Path, graph: Graph) -> bytes:
    content = _read(path)
    if (found := hashlib.sha256(content).hexdigest()) != graph.sha256:
        raise HashMismatch(f"{path}: sha256 is {found}, the manifest says {graph.sha256}")
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise BadGraph(f"{path}: not an ONNX file: {error}") from error
    if any(uses_external_data(tensor) for tensor in _tensors(model)):
        raise ExternalData(f"{path}: tensors outside the file are refused")
    return content


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            graphs += [attribute.g, *attribute.graphs]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} does not exist") from error
    except OSError as error:
        raise ArtifactMissing(f"{path} cannot be read: {error.strerror or error}") from error
