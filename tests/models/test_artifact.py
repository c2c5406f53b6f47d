import hashlib
import json
import shutil
from pathlib import Path

import onnx
import pytest

from models.artifact import (
    ArtifactMissing,
    BadManifest,
    ExternalData,
    HashMismatch,
    LwlmManifest,
    MateformerManifest,
    TrajectoryManifest,
    WrongFamily,
    load_artifact,
)
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

SHIPPED = Path(__file__).parents[2] / "models" / "artifacts" / "mateformer"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "artifact"))


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(manifest | changes))


def test_the_shipped_artifact_is_whole() -> None:
    artifact = load_artifact(SHIPPED)
    assert set(artifact.graphs) == {"full", "frame", "query"}
    assert artifact.digest == hashlib.sha256((SHIPPED / "artifact.json").read_bytes()).hexdigest()
    contract = artifact.manifest.csi
    assert (contract.antennas, contract.subcarriers) == (32, 32)
    inputs = {spec.name: spec.shape for spec in artifact.manifest.graphs["full"].inputs}
    assert inputs["csi_known"] == ["batch", "neighbours", 32, 32, 2]
    assert inputs["csi"] == ["batch", "queries", 32, 32, 2]


def test_one_flipped_byte_is_refused(artifact: Path) -> None:
    graph = artifact / "full.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(HashMismatch, match="full"):
        load_artifact(artifact)


@pytest.mark.parametrize("file", ["artifact.json", "query.onnx"])
def test_a_missing_file_is_named(artifact: Path, file: str) -> None:
    (artifact / file).unlink()
    with pytest.raises(ArtifactMissing, match=file):
        load_artifact(artifact)


@pytest.mark.parametrize("changes", [{"schema_version": 2}, {"family": "oracle"}, {"surprise": 1}, {"passes": 0}])
def test_a_manifest_of_another_schema_is_refused(artifact: Path, changes: dict[str, object]) -> None:
    edit_manifest(artifact, **changes)
    with pytest.raises(BadManifest):
        load_artifact(artifact)


def test_a_graph_outside_the_directory_is_refused(artifact: Path) -> None:
    graphs = json.loads((artifact / "artifact.json").read_text())["graphs"]
    graphs["full"]["file"] = "../full.onnx"
    edit_manifest(artifact, graphs=graphs)
    with pytest.raises(BadManifest):
        load_artifact(artifact)


@pytest.mark.parametrize("hidden", [False, True], ids=["initialiser", "constant of a node"])
def test_tensors_in_other_files_are_refused(artifact: Path, hidden: bool) -> None:
    path = artifact / "query.onnx"
    model = onnx.load(path)
    tensor = onnx.TensorProto(name="stray", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    if hidden:
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["stray"], value=tensor))
    else:
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    graphs = json.loads((artifact / "artifact.json").read_text())["graphs"]
    graphs["query"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(artifact, graphs=graphs)
    with pytest.raises(ExternalData):
        load_artifact(artifact)


@pytest.fixture
def learned(tmp_path: Path) -> Path:
    return write_tiny_trajectory_artifact(tmp_path / "learned", ("a", "b"), 4, 8, 50e6, 6e9).directory


def test_the_family_of_a_trajectory_artifact_is_recognised(learned: Path) -> None:
    artifact = load_artifact(learned)
    assert isinstance(artifact.manifest, TrajectoryManifest)
    assert artifact.manifest.cells == ("a", "b")
    assert load_artifact(learned, TrajectoryManifest) == artifact


def test_an_artifact_of_another_family_than_wanted_is_refused(learned: Path) -> None:
    with pytest.raises(WrongFamily, match="scadf-moe"):
        load_artifact(learned, MateformerManifest)
    with pytest.raises(WrongFamily, match="mateformer"):
        load_artifact(SHIPPED, TrajectoryManifest)


@pytest.mark.parametrize(
    "changes",
    [{"cells": []}, {"carrier_frequencies": []}, {"vertices": 1}, {"radii": {}}, {"passes": 2}, {"graphs": {}}],
)
def test_a_trajectory_manifest_without_its_scope_is_refused(learned: Path, changes: dict[str, object]) -> None:
    edit_manifest(learned, **changes)
    with pytest.raises(BadManifest):
        load_artifact(learned)


@pytest.fixture
def measuring(tmp_path: Path) -> Path:
    return write_tiny_lwlm_artifact(tmp_path / "measuring").directory


def test_the_family_of_an_artifact_that_measures_is_recognised(measuring: Path) -> None:
    artifact = load_artifact(measuring)
    assert isinstance(artifact.manifest, LwlmManifest)
    assert artifact.manifest.csi == CONTRACT
    with pytest.raises(WrongFamily, match="lwlm"):
        load_artifact(measuring, MateformerManifest)


@pytest.mark.parametrize(
    "changes",
    [
        {"stations": 1},
        {"scales": {"range": 1.0, "aoa": 1.0, "position": 1.0}},
        {"scales": {"range": 1.0, "aoa": 1.0, "position": 0.0, "fused": 1.0}},
        {"csi": CONTRACT.model_dump(mode="json") | {"antennas": []}},
        {"csi": CONTRACT.model_dump(mode="json") | {"minimum_bandwidth": 60e6}},
        {"csi": CONTRACT.model_dump(mode="json") | {"maximum_carrier_frequency": 1e9}},
    ],
)
def test_a_manifest_of_an_artifact_that_measures_needs_a_sound_contract(
    measuring: Path, changes: dict[str, object]
) -> None:
    edit_manifest(measuring, **changes)
    with pytest.raises(BadManifest):
        load_artifact(measuring)


def test_an_artifact_that_measures_needs_both_graphs(measuring: Path) -> None:
    graphs = json.loads((measuring / "artifact.json").read_text())["graphs"]
    edit_manifest(measuring, graphs={"full": graphs["full"]})
    with pytest.raises(BadManifest, match="fuse"):
        load_artifact(measuring)
