"""The artifact: what the trainer writes and the service loads. Knows no torch.

A directory with ONNX graphs, each one file without external data, ``artifact.json`` that describes and hashes them, and
a model card. The digest of ``artifact.json`` names the whole: it covers every graph's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SCHEMA_VERSION = 1
MANIFEST_FILE = "artifact.json"
RADII_CONFIDENCE = 0.95

Tensor = TypeVar("Tensor")


class ArtifactError(Exception):
    """An artifact cannot be trusted or used."""


class ArtifactMissing(ArtifactError):
    """A file of the artifact is not there, or cannot be read."""


class BadManifest(ArtifactError):
    """``artifact.json`` is not of a schema that this version knows."""


class HashMismatch(ArtifactError):
    """A graph is not the one that the manifest describes."""


class BadGraph(ArtifactError):
    """A graph is what the manifest describes, but not ONNX."""


class ExternalData(ArtifactError):
    """A graph refers to tensors outside its own file."""


class WrongFamily(ArtifactError):
    """An artifact is good, but of another family than is wanted."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Frozen):
    """A graph's input or output; a name in ``shape`` stands for any size."""

    name: str
    dtype: str
    shape: list[int | str]

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape, its free dimensions given by name."""
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.shape)


class Graph(_Frozen):
    """A file and what it takes and gives.

    Frames lie in pools, inputs whose first free dimension is called ``pool``. The graph that encodes them gives each
    pool back, named by `written`, and nothing of it is changed but the slots asked for: input and output may be one
    and the same memory.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    def taken(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the inputs that the graph takes: not every network listens to a coarse position."""
        return {spec.name: inputs[spec.name] for spec in self.inputs}

    @property
    def pools(self) -> list[TensorSpec]:
        return [spec for spec in self.inputs if spec.shape[:1] == ["pool"]]


def written(pool: str) -> str:
    """The output's name of a graph that writes into a pool."""
    return f"written_{pool}"


class CsiContract(_Frozen):
    """The channel that the network was trained on; frequencies in hertz."""

    antennas: int = Field(gt=0)
    subcarriers: int = Field(gt=0)
    carrier_frequency: float = Field(gt=0)
    bandwidth: float = Field(gt=0)


class ArtifactManifest(_Frozen):
    """``artifact.json`` of a network that compares a user with fingerprints.

    ``neighbourhood_size`` fingerprints are fetched for a request, never fewer than ``minimum_neighbours``. A user is
    located ``passes`` times, the neighbourhood fetched again around the last answer. ``tile_pitch`` (metres) is the
    coarsest grid that a coarse position may be snapped to without loss. ``metrics`` are metres on held-out data.
    """

    schema_version: Literal[1]
    family: Literal["mateformer"]
    name: str
    version: str
    created_at: str
    graphs: dict[str, Graph]
    csi: CsiContract
    neighbourhood_size: int = Field(gt=0)
    minimum_neighbours: int = Field(gt=0)
    passes: int = Field(gt=0)
    tile_pitch: float = Field(ge=0)
    training_data_digest: str
    metrics: dict[str, float]
    opset: int
    exporter: str


class BandContract(_Frozen):
    """The channel of a network for several carriers; `bandwidth` in hertz."""

    antennas: int = Field(gt=0)
    subcarriers: int = Field(gt=0)
    bandwidth: float = Field(gt=0)


class Radii(_Frozen):
    """Metres: of `RADII_CONFIDENCE` of all trajectories, how far off a vertex lies at most, and the centroid."""

    vertex: float = Field(gt=0)
    centroid: float = Field(gt=0)


class CueRadii(_Frozen):
    """How far to trust an answer, by where the cues beside the CSI came from: the base station, or the CSI itself."""

    measured: Radii
    estimated: Radii


class TrajectoryManifest(_Frozen):
    """``artifact.json`` of a network that locates short trajectories at the places that it has learned.

    Its one graph ``full`` takes ``csi`` float32 `[batch, vertices, antennas, subcarriers, 2]` and ``cues`` float32
    `[batch, vertices, 4]`: azimuth of departure and of arrival (radians counter-clockwise from east), length of the
    strongest path (metres), large-scale gain (linear power). It gives ``positions`` float32 `[batch, vertices + 1, 2]`:
    each vertex, then the centroid, in metres east and north of the base station.

    It is good for the `cells` named, on `carrier_frequencies` (hertz), for points that all lie within `radius` metres
    of one of them. ``metrics`` are metres on held-out data.
    """

    schema_version: Literal[1]
    family: Literal["scadf-moe"]
    name: str
    version: str
    created_at: str
    graphs: dict[Literal["full"], Graph] = Field(min_length=1)
    csi: BandContract
    carrier_frequencies: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    cells: tuple[str, ...] = Field(min_length=1)
    vertices: int = Field(gt=1)
    radius: float = Field(gt=0)
    radii: CueRadii
    training_data_digest: str
    metrics: dict[str, float]
    opset: int
    exporter: str


@dataclass(frozen=True)
class Artifact:
    """A checked artifact: every graph is present, whole and self-contained."""

    directory: Path
    manifest: ArtifactManifest
    digest: str  # sha256 of artifact.json, hex
    graphs: dict[str, bytes]


@dataclass(frozen=True)
class TrajectoryArtifact:
    """As `Artifact`, of a network for trajectories."""

    directory: Path
    manifest: TrajectoryManifest
    digest: str
    graphs: dict[str, bytes]


_MANIFEST: TypeAdapter[ArtifactManifest | TrajectoryManifest] = TypeAdapter(
    Annotated[ArtifactManifest | TrajectoryManifest, Field(discriminator="family")]
)


def read_manifest(directory: Path) -> tuple[ArtifactManifest | TrajectoryManifest, str]:
    """What an artifact says of itself, and its digest; its graphs are not looked at.

    Raises `ArtifactMissing` or `BadManifest`.
    """
    manifest_bytes = _read(directory / MANIFEST_FILE)
    try:
        manifest = _MANIFEST.validate_json(manifest_bytes)
    except ValidationError as error:
        raise BadManifest(f"{directory / MANIFEST_FILE}: {error}") from error
    return manifest, hashlib.sha256(manifest_bytes).hexdigest()


def load_artifact(directory: Path) -> Artifact | TrajectoryArtifact:
    """Reads and checks an artifact of whichever family.

    Raises `ArtifactMissing`, `BadManifest`, `HashMismatch`, `BadGraph` or `ExternalData`, all of them `ArtifactError`.
    """
    manifest, digest = read_manifest(directory)
    graphs = {str(name): _checked(directory / graph.file, graph) for name, graph in manifest.graphs.items()}
    if isinstance(manifest, TrajectoryManifest):
        return TrajectoryArtifact(directory, manifest, digest, graphs)
    return Artifact(directory, manifest, digest, graphs)


def load_mateformer(directory: Path) -> Artifact:
    """As `load_artifact`; raises `WrongFamily` too."""
    artifact = load_artifact(directory)
    if not isinstance(artifact, Artifact):
        raise WrongFamily(f"{directory} is of the family {artifact.manifest.family}, not mateformer")
    return artifact


def load_trajectory_artifact(directory: Path) -> TrajectoryArtifact:
    """As `load_artifact`; raises `WrongFamily` too."""
    artifact = load_artifact(directory)
    if not isinstance(artifact, TrajectoryArtifact):
        raise WrongFamily(f"{directory} is of the family {artifact.manifest.family}, not scadf-moe")
    return artifact


def _checked(path: Path, graph: Graph) -> bytes:
    content = _read(path)
    if (found := hashlib.sha256(content).hexdigest()) != graph.sha256:
        raise HashMismatch(f"{path}: sha256 is {found}, the manifest says {graph.sha256}")
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise BadGraph(f"{path}: no ONNX: {error}") from error
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
        raise ArtifactMissing(f"{path} is not there") from error
    except OSError as error:
        raise ArtifactMissing(f"{path} cannot be read: {error.strerror or error}") from error
