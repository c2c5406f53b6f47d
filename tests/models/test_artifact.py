import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from models.artifact import (
    ArtifactMissing,
    BadManifest,
    ExternalData,
    HashMismatch,
    LwlmManifest,
    MateformerManifest,
    Range,
    Scales,
    TrajectoryManifest,
    WrongFamily,
    load_artifact,
)
from reference_db import AntennaArray, Cell
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

SHIPPED = Path(__file__).parents[2] / "models" / "artifacts" / "mateformer"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "artifact").mkdir()
    return write_tiny_artifact(tmp_path / "artifact", tile_pitch=2.0).directory


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(manifest | changes))


def test_the_shipped_artifact_is_whole() -> None:
    artifact = load_artifact(SHIPPED, MateformerManifest)
    assert set(artifact.graphs) == {"describe", "full", "frame", "query", "track"}
    assert artifact.digest == hashlib.sha256((SHIPPED / "artifact.json").read_bytes()).hexdigest()
    manifest = artifact.manifest
    assert manifest.csi.reason_against(make_cell()) is None
    (features,) = manifest.graphs["describe"].outputs
    assert features.shape == ["snapshots", manifest.features]
    inputs = {spec.name: spec.shape for spec in manifest.graphs["full"].inputs}
    assert inputs["features_known"] == ["batch", "neighbours", manifest.features]
    assert inputs["features"] == ["batch", "queries", manifest.features]


def make_cell(**changes: Any) -> Cell:
    """A cell inside the ranges of the tiny artifact."""
    array = AntennaArray(rows=changes.pop("rows", 2), columns=8, **changes.pop("array", {}))
    fields = {"carrier_frequency": 3.5e9, "bandwidth": 40e6, "subcarriers": 32} | changes
    return Cell(cell_id="a", latitude_deg=0, longitude_deg=0, height=10, yaw=0, array=array, **fields)


@pytest.mark.parametrize(
    "changes", [{}, {"bandwidth": 10e6}, {"bandwidth": 100e6}, {"array": {"polarisations": 2}}, {"subcarriers": 64}]
)
def test_a_radio_inside_the_ranges_is_served(artifact: Path, changes: dict[str, Any]) -> None:
    assert load_artifact(artifact, MateformerManifest).manifest.csi.reason_against(make_cell(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bandwidth": 400e6}, "bandwidth is 400 MHz, the artifact was trained on 10 to 100 MHz"),
        ({"carrier_frequency": 0.5e9}, "carrierFrequency is 0.5 GHz, the artifact was trained on 0.6 to 30 GHz"),
        ({"subcarriers": 65}, "subcarriers is 65, the artifact was trained on 2 to 64"),
        ({"rows": 9}, "antennas is 72, the artifact was trained on 1 to 64"),
        ({"array": {"spacing": 1.0}}, "array.spacing is 1 wavelengths, the artifact was trained on 0.4 to 0.7"),
    ],
)
def test_a_radio_outside_the_ranges_is_told_which(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    against = load_artifact(artifact, MateformerManifest).manifest.csi.reason_against(make_cell(**changes))
    assert against is not None
    assert against.startswith(reason)


def test_a_range_of_one_value_is_named_once(artifact: Path) -> None:
    contract = load_artifact(artifact, MateformerManifest).manifest.csi
    narrow = contract.model_copy(update={"polarisations": Range(minimum=1, maximum=1)})
    against = narrow.reason_against(make_cell(array={"polarisations": 2}))
    assert against == "array.polarisations is 2, the artifact was trained on 1"


def test_an_artifact_of_the_schema_before_is_refused_with_advice(artifact: Path) -> None:
    edit_manifest(artifact, schema_version=1)
    with pytest.raises(BadManifest, match=r"schema version 1 is no longer served.*Train it again"):
        load_artifact(artifact)


def test_an_empty_range_is_refused(artifact: Path) -> None:
    csi = json.loads((artifact / "artifact.json").read_text())["csi"]
    edit_manifest(artifact, csi=csi | {"bandwidth": {"minimum": 2e6, "maximum": 1e6}})
    with pytest.raises(BadManifest, match="minimum is above maximum"):
        load_artifact(artifact)


@pytest.mark.parametrize("missing", ["describe", "full", "frame"])
def test_a_model_that_compares_users_needs_its_graphs(artifact: Path, missing: str) -> None:
    graphs = json.loads((artifact / "artifact.json").read_text())["graphs"]
    edit_manifest(artifact, graphs={name: graph for name, graph in graphs.items() if name != missing})
    with pytest.raises(BadManifest, match="describe"):
        load_artifact(artifact)


def test_a_graph_for_few_users_is_optional(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path, tile_pitch=2.0, few_beside=0.0)
    assert set(artifact.graphs) == {"describe", "full", "frame", "query", "query_few"}
    assert load_artifact(tmp_path) == artifact


@pytest.mark.parametrize("missing", ["frame", "query"])
def test_a_graph_for_few_users_needs_frames(tmp_path: Path, missing: str) -> None:
    artifact = write_tiny_artifact(tmp_path, tile_pitch=2.0, few_beside=0.0)
    graphs = json.loads((artifact.directory / "artifact.json").read_text())["graphs"]
    edit_manifest(tmp_path, graphs={name: graph for name, graph in graphs.items() if name != missing})
    with pytest.raises(BadManifest, match="for frames"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_graph_for_few_users_takes_and_returns_what_the_other_does(tmp_path: Path, side: str) -> None:
    artifact = write_tiny_artifact(tmp_path, tile_pitch=2.0, few_beside=0.0)
    graphs = json.loads((artifact.directory / "artifact.json").read_text())["graphs"]
    graphs["query_few"][side][-1]["name"] = "another"
    edit_manifest(tmp_path, graphs=graphs)
    with pytest.raises(BadManifest, match="'query_few' must take and return what 'query' does"):
        load_artifact(tmp_path)


def test_an_unknown_graph_is_refused(artifact: Path) -> None:
    graphs = json.loads((artifact / "artifact.json").read_text())["graphs"]
    edit_manifest(artifact, graphs=graphs | {"query_fewer": graphs["query"]})
    with pytest.raises(BadManifest, match="query_few"):
        load_artifact(artifact)


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


@pytest.mark.parametrize("changes", [{"schema_version": 3}, {"family": "oracle"}, {"surprise": 1}, {"passes": 0}])
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


def test_an_artifact_of_another_family_than_wanted_is_refused(learned: Path, artifact: Path) -> None:
    with pytest.raises(WrongFamily, match="scadf-moe"):
        load_artifact(learned, MateformerManifest)
    with pytest.raises(WrongFamily, match="mateformer"):
        load_artifact(artifact, TrajectoryManifest)


@pytest.mark.parametrize(
    "changes",
    [{"cells": []}, {"carrier_frequencies": []}, {"vertices": 1}, {"scales": {}}, {"passes": 2}, {"graphs": {}}],
)
def test_a_trajectory_manifest_without_its_scope_is_refused(learned: Path, changes: dict[str, object]) -> None:
    edit_manifest(learned, **changes)
    with pytest.raises(BadManifest):
        load_artifact(learned)


def test_a_trajectory_artifact_of_schema_version_1_is_refused_by_name(learned: Path) -> None:
    edit_manifest(learned, schema_version=1)
    with pytest.raises(BadManifest, match=r"version 1 is no longer served.*Train it again"):
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


def test_scales_of_schema_version_1_are_known_at_95_percent_only(measuring: Path) -> None:
    edit_manifest(measuring, schema_version=1, scales={"range": 2.0, "aoa": 2.5, "position": 3.0, "fused": 3.5})
    manifest = load_artifact(measuring, LwlmManifest).manifest
    assert manifest.scales.position == Scales(factors={95: 3.0})
    assert manifest.scales.aoa.at(50) == (95, 2.5)
