"""Reads and checks an artifact's directory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeAlias, TypeVar, overload

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data
from pydantic import Field, TypeAdapter, ValidationError

from models.artifact.graph import Graph
from models.artifact.manifests import BaseManifest, LwlmManifest, Manifest, MateformerManifest, TrajectoryManifest

if TYPE_CHECKING:
    from typing_extensions import TypeIs

MANIFEST_FILE = "artifact.json"


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
LwlmArtifact: TypeAlias = Artifact[LwlmManifest]
ServedArtifact: TypeAlias = MateformerArtifact | TrajectoryArtifact | LwlmArtifact

_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="family")])


def is_mateformer(artifact: ServedArtifact) -> TypeIs[MateformerArtifact]:
    return isinstance(artifact.manifest, MateformerManifest)


def is_lwlm(artifact: ServedArtifact) -> TypeIs[LwlmArtifact]:
    return isinstance(artifact.manifest, LwlmManifest)


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest of an artifact and its digest, without checking the graphs.

    Raises `ArtifactMissing` or `BadManifest`.
    """
    return _read_manifest(directory, _MANIFEST)


@overload
def load_artifact(directory: Path) -> ServedArtifact: ...


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
        reasons = "; ".join(
            ": ".join([*[".".join(map(str, one["loc"]))] * bool(one["loc"]), one["msg"].removeprefix("Value error, ")])
            for one in wrong
        )
        raise BadManifest(f"{directory / MANIFEST_FILE}: {reasons}") from error
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
