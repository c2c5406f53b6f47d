import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from models.artifact import MateformerArtifact, MateformerManifest, load_artifact, written
from models.artifact.channel_transform import ChannelTransform
from models.layers.channel_features import FEATURES, describe_channel
from models.mateformer import query_few
from models.mateformer.card import mateformer_card
from models.mateformer.data import View
from models.mateformer.export import HALF_FRAMES_M, check_parity, record_evaluation
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.pipeline import eight_bits
from models.pipeline.export import ParityLost
from models.pipeline.onnx_graph import write_graph
from reference_db.cell import AntennaArray
from tests.models.one_path import as_pairs

METRES = {"mean_m": 0.5, "median_m": 0.4, "p90_m": 1.0}
SUMMARY = {"splits": {"validation": {"all": {"gnss_1m": {"mateformer": METRES}}}}}


def snapshots(view: View, rows: np.ndarray) -> np.ndarray:
    """CSI [..., antennas, subcarriers] of users."""
    return view.csi[rows].astype(np.float32).view(np.complex64)[..., 0]


def session(artifact: MateformerArtifact, graph: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(artifact.graphs[graph], providers=["CPUExecutionProvider"])


Asked = tuple[dict[str, Tensor], tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def ask(view: View, rows: np.ndarray, known: int, accuracy: float = 1.0) -> Asked:
    """What `check_parity` takes of users [b, t], of whom the first are known."""
    feeds = view.channel.feeds(as_pairs(snapshots(view, rows.reshape(-1))))
    channel = {name: torch.from_numpy(value) for name, value in feeds.items()}
    features = describe_channel(*channel.values()).unflatten(0, rows.shape)
    positions = torch.from_numpy(view.positions[rows])
    b, q = len(rows), rows.shape[1] - known
    references = features[:, :known], positions[:, :known], torch.full((b, known), 0.3)
    return channel, references, (features[:, known:], positions[:, known:] + 1, torch.full((b, q), accuracy))


@pytest.mark.parametrize(("b", "n", "q"), [(1, 16, 1), (2, 9, 5), (7, 40, 1), (1, 1, 1)])
def test_graphs_equal_torch_within_a_millimetre_on_real_csi_of_any_size(
    artifact: MateformerArtifact, model: Mateformer, view: View, b: int, n: int, q: int
) -> None:
    rows = np.random.default_rng(b).integers(0, len(view.csi), (b, n + q))
    for accuracy in (1.0, math.inf):
        assert check_parity(model, artifact.directory, *ask(view, rows, n, accuracy)) < 1e-3


def test_the_covariances_of_the_graphs_are_those_of_torch(
    artifact: MateformerArtifact, model: Mateformer, view: View
) -> None:
    _, known, users = ask(view, np.arange(40).reshape(2, 20), 16)
    with torch.inference_mode():
        expected = model(*known, *users).covariance.numpy()
    names = "features_known", "positions_known", "sigmas_known", "features", "coarse", "accuracy"
    inputs = {name: value.numpy() for name, value in zip(names, (*known, *users), strict=True)}
    positions, covariances = session(artifact, "full").run(["positions", "covariances"], inputs)
    assert positions.shape == (2, 4, 2)
    np.testing.assert_allclose(covariances, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("array", "subcarriers"),
    [
        (AntennaArray(rows=1, columns=8), 8),
        (AntennaArray(rows=1, columns=4, polarisations=2), 12),
        (AntennaArray(rows=4, columns=2, polarisations=2), 31),
        (AntennaArray(rows=8, columns=1), 16),
        (AntennaArray(rows=1, columns=1), 48),
    ],
)
def test_one_graph_describes_every_array(artifact: MateformerArtifact, array: AntennaArray, subcarriers: int) -> None:
    graph = session(artifact, "describe")
    parts = np.random.default_rng(1).normal(size=(7, array.antennas, subcarriers, 2)).astype(np.float32)
    csi = parts.view(np.complex64)[..., 0]
    channel = ChannelTransform.of(array, subcarriers, 40e6, 3.5e9, 0.0, None, csi)
    for snapshots in (parts, parts[:1], np.zeros_like(parts)):
        feeds = channel.feeds(snapshots)
        features = graph.run(["features"], feeds)[0]
        assert features.shape == (len(snapshots), artifact.manifest.features)
        expected = describe_channel(*(torch.from_numpy(value) for value in feeds.values())).numpy()
        np.testing.assert_allclose(features, expected, atol=2e-3)


def test_disagreement_is_an_error(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe, view: View, model: Mateformer
) -> None:
    torch.manual_seed(1)
    stranger = Mateformer(mateformer_recipe.config()).eval()
    channel, known, users = ask(view, np.arange(20)[None], 16)
    with pytest.raises(ParityLost):
        check_parity(stranger, artifact.directory, channel, known, users)


def test_the_graph_for_few_users_takes_what_the_other_takes(artifact: MateformerArtifact) -> None:
    graphs = artifact.manifest.graphs
    assert graphs["query_few"].inputs == graphs["query"].inputs
    assert graphs["query_few"].outputs == graphs["query"].outputs


def test_a_graph_for_few_users_that_answers_otherwise_is_an_error(
    artifact: MateformerArtifact, view: View, model: Mateformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rounded"
    shutil.copytree(artifact.directory, folder)
    monkeypatch.setattr(eight_bits, "FEWEST_WEIGHTS", 256)  # the maps of this model are small
    (folder / "query_few.onnx").write_bytes(query_few.quantise_query(artifact.graphs["query"]))
    asked = ask(view, np.arange(20)[None], 16)
    assert check_parity(model, folder, *asked) < 1e-3
    monkeypatch.setattr(query_few, "SHIFT_LIMIT", 1e-9)
    with pytest.raises(ParityLost, match="query_few"):
        check_parity(model, folder, *asked)


def test_a_frame_encoded_once_serves_many_queries(artifact: MateformerArtifact, view: View) -> None:
    frame_graph, query_graph, full = (session(artifact, name) for name in ("frame", "query", "full"))
    _, references, users = ask(view, np.arange(26)[None], 16)
    known = name_known(references)
    pools, slots = empty_pools(artifact, frames=3), {"slots": np.ones(1, np.int64)}
    frames = dict(zip(pools, frame_graph.run(None, known | pools | slots), strict=True)) | slots
    for user in range(10):
        one = (value[:, user : user + 1].numpy() for value in users)
        asked = dict(zip(("features", "coarse", "accuracy"), one, strict=True))
        answer = query_graph.run(None, frames | asked)
        single_pass = full.run(None, known | asked)
        np.testing.assert_allclose(answer[0], single_pass[0], atol=HALF_FRAMES_M)
        np.testing.assert_allclose(answer[1], single_pass[1], rtol=2e-2)


def name_known(references: tuple[Tensor, Tensor, Tensor]) -> dict[str, np.ndarray]:
    names = "features_known", "positions_known", "sigmas_known"
    return {name: value.numpy() for name, value in zip(names, references, strict=True)}


def test_a_frame_is_written_into_its_slot_only(artifact: MateformerArtifact, view: View) -> None:
    _, references, _ = ask(view, np.arange(17)[None], 16)
    pools = empty_pools(artifact, frames=3)
    outputs = session(artifact, "frame").run(None, name_known(references) | pools | {"slots": np.ones(1, np.int64)})
    assert [spec.name for spec in artifact.manifest.graphs["frame"].outputs] == [written(name) for name in pools]
    for pool in outputs:
        assert not pool[[0, 2]].any()
        assert pool[1].any()


def empty_pools(artifact: MateformerArtifact, frames: int) -> dict[str, np.ndarray]:
    pools = artifact.manifest.graphs["frame"].pools
    assert pools == artifact.manifest.graphs["query"].pools
    return {spec.name: np.zeros(spec.sized(pool=frames, neighbours=16), spec.dtype) for spec in pools}


def test_onnx_runtime_finds_little_left_to_fuse(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(artifact.graphs["query"], options, providers=["CPUExecutionProvider"])
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    depth = mateformer_recipe.config().depth
    # The last layer moves positions only. A Gemm has its bias in it, and the two attentions of a layer are one. The
    # position is one map, its certainty two with a GELU between them.
    assert ran["Gemm"] == 7 * depth - 3 + 3
    # Features and fixes have a dimension more when they are embedded; the fix moves the position by a matrix.
    assert ran["MatMul"] + ran["FusedMatMul"] <= 4
    assert ran["Gelu"] == 2 * depth - 1 + 1
    assert ran["Attention"] == depth
    assert not ran["Softmax"]
    # Keys and values; places, centre, spread and levels; two columns of the certainty, one of the fused precision.
    assert ran["Gather"] == 2 * depth + 4 + 3
    assert not ran["Erf"]


def test_the_manifest_says_what_the_graphs_take(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe
) -> None:
    manifest = artifact.manifest
    assert manifest.csi == mateformer_recipe.ranges
    assert manifest.features == FEATURES
    assert manifest.passes == mateformer_recipe.retrieval.passes
    for name, graph in manifest.graphs.items():
        declared = {value.name: value.shape for value in session(artifact, name).get_inputs()}
        assert declared == {spec.name: spec.shape for spec in graph.inputs}


def test_the_card_names_the_recipe_and_the_held_out_cells(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe
) -> None:
    card = (artifact.directory / "README.md").read_text()
    assert "Not measured yet" in card
    assert mateformer_recipe.digest in card
    assert ", ".join(mateformer_recipe.cells.test) in card


def test_the_card_of_a_fine_tuned_model_states_its_limits_and_promises_no_results(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe
) -> None:
    cells = mateformer_recipe.cells.model_copy(update={"fingerprints": ("surveys",), "train": []})
    recipe = mateformer_recipe.model_copy(update={"cells": cells})
    card = mateformer_card(recipe, artifact.manifest, table=None)
    assert "**For** the radio of the measured cells below." in card
    assert card.index("**Limits.**") < card.index("Not measured yet")
    assert "The results below" not in card
    assert "The results below" in mateformer_card(recipe, artifact.manifest, table="| a |")


def test_an_export_does_not_name_the_operators_of_libraries_that_no_model_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_graph(torch.nn.ReLU(), (torch.zeros(2, 3),), {"x": {0: "rows"}}, ["y"], tmp_path / "relu.onnx")
    assert "torchvision" not in caplog.text


def test_recording_an_evaluation_leaves_the_graphs_as_they_are(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    folder, evaluation = tmp_path / "artifact", tmp_path / "evaluation"
    shutil.copytree(artifact.directory, folder)
    evaluation.mkdir()
    (evaluation / "evaluation.json").write_text(json.dumps(SUMMARY))
    (evaluation / "evaluation.md").write_text("| a | table |\n")
    (evaluation / "evaluation.png").write_bytes(b"plot")
    record_evaluation(load_artifact(folder, MateformerManifest), mateformer_recipe, evaluation)
    measured = load_artifact(folder)
    assert measured.manifest.metrics == {f"validation/mateformer/gnss_1m/{key}": m for key, m in METRES.items()}
    assert measured.manifest.model_copy(update={"metrics": {}}) == artifact.manifest
    assert measured.graphs == artifact.graphs
    card = (folder / "README.md").read_text()
    assert "| a | table |" in card
    assert "Not measured yet" not in card
    assert (folder / "evaluation.png").read_bytes() == b"plot"


def test_no_graph_needs_another_file(artifact: MateformerArtifact) -> None:
    names = sorted(path.name for path in artifact.directory.iterdir())
    graphs = ["describe.onnx", "frame.onnx", "full.onnx", "query.onnx", "query_few.onnx"]
    assert names == ["README.md", "artifact.json", *graphs]
