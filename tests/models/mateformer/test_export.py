import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models.artifact import MateformerArtifact, MateformerManifest, load_artifact, written
from models.mateformer.export import HALF_FRAMES_M, check_parity, export, record_evaluation
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.export import ParityLost, round_weights
from models.radio.cells import RadioCell, load_cell

DATA = Path(__file__).parents[1] / "data"
METRES = {"mean_m": 0.5, "median_m": 0.4, "p90_m": 1.0}
SUMMARY = {"splits": {"validation": {"all": {"gnss_1m": {"mateformer": METRES}}}}}


@pytest.fixture(scope="module")
def cell(mateformer_recipe: MateformerRecipe) -> RadioCell:
    return load_cell(DATA / "etoile-0900.paths.safetensors", mateformer_recipe.radio)


@pytest.fixture(scope="module")
def model(mateformer_recipe: MateformerRecipe) -> Mateformer:
    torch.manual_seed(0)
    return round_weights(Mateformer(mateformer_recipe.config())).eval()


@pytest.fixture(scope="module")
def artifact(
    mateformer_recipe: MateformerRecipe, cell: RadioCell, model: Mateformer, tmp_path_factory
) -> MateformerArtifact:
    folder = tmp_path_factory.mktemp("artifact")
    rows = np.arange(60).reshape(3, 20)
    export(
        model,
        mateformer_recipe,
        folder,
        known=cell.csi[rows[:, :16]],
        positions=cell.positions[rows[:, :16]],
        users=cell.csi[rows[:, 16:]],
        truth=cell.positions[rows[:, 16:]],
        training_data_digest="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
    )
    return load_artifact(folder, MateformerManifest)


def session(artifact: MateformerArtifact, graph: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(artifact.graphs[graph], providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("b", "n", "q"), [(1, 16, 1), (2, 9, 5), (7, 40, 1), (1, 1, 1)])
def test_graphs_equal_torch_within_a_millimetre_on_real_csi_of_any_size(
    artifact: MateformerArtifact, model: Mateformer, cell: RadioCell, b: int, n: int, q: int
) -> None:
    rows = np.random.default_rng(b).integers(0, len(cell.csi), (b, n + q))
    pairs = torch.view_as_real(torch.from_numpy(cell.csi[rows]))
    positions = torch.from_numpy(cell.positions[rows])
    known, users = (pairs[:, :n], positions[:, :n]), (pairs[:, n:], positions[:, n:], torch.ones(b, q))
    assert check_parity(model, artifact.directory, known, users) < 1e-3
    nowhere = torch.zeros(b, q, 2), torch.full((b, q), torch.inf)
    assert check_parity(model, artifact.directory, known, (pairs[:, n:], *nowhere)) < 1e-3


def test_disagreement_is_an_error(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe, cell: RadioCell
) -> None:
    torch.manual_seed(1)
    stranger = Mateformer(mateformer_recipe.config()).eval()
    pairs = torch.view_as_real(torch.from_numpy(cell.csi[None, :20]))
    users = pairs[:, 16:], torch.zeros(1, 4, 2), torch.ones(1, 4)
    with pytest.raises(ParityLost):
        check_parity(stranger, artifact.directory, (pairs[:, :16], torch.zeros(1, 16, 2)), users)


def test_a_frame_encoded_once_serves_many_queries(artifact: MateformerArtifact, cell: RadioCell) -> None:
    frame_graph, query_graph, full = (session(artifact, name) for name in ("frame", "query", "full"))
    pairs = cell.csi.view(np.float32).reshape(*cell.csi.shape, 2)
    known = {"csi_known": pairs[None, :16], "positions_known": cell.positions[None, :16]}
    pools, slots = empty_pools(artifact, frames=3), {"slots": np.ones(1, np.int64)}
    frames = dict(zip(pools, frame_graph.run(None, known | pools | slots), strict=True)) | slots
    for user in range(16, 26):
        coarse, accuracy = cell.positions[None, user, None], np.ones((1, 1), np.float32)
        asked = {"csi": pairs[None, user, None], "coarse": coarse, "accuracy": accuracy}
        answer = query_graph.run(None, frames | asked)[0]
        np.testing.assert_allclose(answer, full.run(None, known | asked)[0], atol=HALF_FRAMES_M)


def test_a_frame_is_written_into_its_slot_only(artifact: MateformerArtifact, cell: RadioCell) -> None:
    pairs = cell.csi.view(np.float32).reshape(*cell.csi.shape, 2)
    known = {"csi_known": pairs[None, :16], "positions_known": cell.positions[None, :16]}
    pools = empty_pools(artifact, frames=3)
    outputs = session(artifact, "frame").run(None, known | pools | {"slots": np.ones(1, np.int64)})
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
    # The last layer moves positions only. A Gemm has its bias in it, and the two attentions of a layer are one.
    assert ran["Gemm"] == 1 + 7 * depth - 3 + 1
    assert ran["Gelu"] == 2 * depth - 1
    assert ran["Attention"] == depth
    assert not ran["Softmax"]
    assert ran["Gather"] == 2 * depth + 3  # keys and values, and of the places, centre and scale
    assert not ran["Erf"]


def test_the_manifest_says_what_the_graphs_take(
    artifact: MateformerArtifact, mateformer_recipe: MateformerRecipe
) -> None:
    manifest = artifact.manifest
    assert manifest.csi.antennas == mateformer_recipe.radio.array.antennas
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
    assert names == ["README.md", "artifact.json", "frame.onnx", "full.onnx", "query.onnx"]
