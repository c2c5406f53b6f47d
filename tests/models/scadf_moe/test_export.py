import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from models.artifact import CONFIDENCES, TrajectoryManifest, load_artifact
from models.cli import app
from models.scadf_moe.calibration import locate
from models.scadf_moe.certainty_training import fit_certainty, save_certain
from models.scadf_moe.data import build_corpus
from models.scadf_moe.export import NotServable, export_run, write_trajectories
from models.scadf_moe.held_out import draw_unseen, load_served
from models.scadf_moe.learner import ScadfMoELearner, load_model
from models.scadf_moe.recipe import CertaintyTraining, ScadfMoERecipe
from reference_db import read_fingerprint_file


@pytest.fixture(scope="module")
def recipe(scadf_moe_recipe: ScadfMoERecipe) -> ScadfMoERecipe:
    certainty = CertaintyTraining(after=220, trajectories=60, hidden=8, steps=50, learning_rate=1e-2, weight_decay=0.1)
    sampling = scadf_moe_recipe.sampling.model_copy(update={"held_out": 0.6})
    changes = {"path_features": "served", "certainty": certainty, "sampling": sampling}
    return scadf_moe_recipe.model_copy(update=changes)


@pytest.fixture(scope="module")
def run(recipe: ScadfMoERecipe, bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    ScadfMoELearner(recipe, build_corpus(recipe, bands), folder, torch.device("cpu")).run(until=10)
    model = fit_certainty(recipe, load_model(folder, recipe), load_served(recipe, bands))
    save_certain(model, folder, recipe)
    return folder


@pytest.fixture(scope="module")
def exported(recipe: ScadfMoERecipe, run: Path, bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    arguments = [folder / "recipe.yaml", run, folder / "scadf-moe", "--paths", bands, "--shown", folder / "shown"]
    result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def answers(exported: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Errors [b, v, 2], covariances [b, v, 2, 2] and path features [b, v, 4] of the example trajectories."""
    artifact = load_artifact(exported / "scadf-moe", TrajectoryManifest)
    v = artifact.manifest.vertices
    cell, users = read_fingerprint_file(exported / "shown" / "etoile-0900-trajectories.safetensors")
    features = np.load(exported / "shown" / "etoile-0900-cues.npy").reshape(-1, v, 4)
    assert (cell.cell_id, cell.carrier_frequency) == ("etoile-0900", 2.6e9)
    csi = users.csi.view(np.float32).reshape(-1, v, cell.antennas, cell.subcarriers, 2)
    session = onnxruntime.InferenceSession(artifact.graphs["full"], providers=["CPUExecutionProvider"])
    positions, covariances = session.run(["positions", "covariances"], {"csi": csi, "path_features": features})
    return positions[:, :-1] - users.positions.reshape(-1, v, 2), covariances[:, :-1], features


def test_an_artifact_states_its_cells_bands_and_scales(recipe: ScadfMoERecipe, exported: Path) -> None:
    manifest = load_artifact(exported / "scadf-moe", TrajectoryManifest).manifest
    assert manifest.cells == ("etoile-0900",)
    assert manifest.carrier_frequencies == recipe.train_bands
    assert (manifest.vertices, manifest.radius) == (3, 8.0)
    for kind in ("measured", "estimated"):
        assert manifest.metrics[f"median error of unseen points, {kind} path features"] < manifest.tolerance
        for one in (getattr(manifest.scales, kind).vertex, getattr(manifest.scales, kind).centroid):
            factors = [one.at(confidence).factor for confidence in CONFIDENCES]
            assert factors == sorted(factors)
            assert 0 < factors[0] < factors[-1] < 100
    for file in ("README.md", "recipe.yaml", "log.jsonl", "weights.safetensors"):
        assert (exported / "scadf-moe" / file).stat().st_size > 0


def test_the_ellipses_hold_for_trajectories_outside_the_calibration(
    exported: Path, answers: tuple[NDArray[np.float32], ...]
) -> None:
    errors, covariances, _ = answers
    distances = np.sqrt(np.einsum("...i,...ij,...j->...", errors, np.linalg.inv(covariances), errors))
    scales = load_artifact(exported / "scadf-moe", TrajectoryManifest).manifest.scales.measured.vertex
    assert (distances <= scales.at(95).factor).mean() > 0.85
    assert 0.35 < (distances <= scales.at(50).factor).mean() < 0.65


def test_an_artifact_states_covariances_of_its_own_for_each_point(answers: tuple[NDArray[np.float32], ...]) -> None:
    _, covariances, _ = answers
    np.testing.assert_array_equal(covariances, covariances.swapaxes(-1, -2))
    assert np.linalg.eigvalsh(covariances).min() > 0
    assert len(np.unique(covariances[..., 0, 0].round(6))) > covariances[..., 0, 0].size / 2


def test_the_coverage_of_an_artifact_is_measured_again(exported: Path, bands: Path) -> None:
    command = ["evaluate", str(exported / "scadf-moe"), "--paths", str(bands)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.strip() in (exported / "scadf-moe" / "README.md").read_text()
    assert "| centroid, estimated, 28 GHz |" in result.output
    rows = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)
    assert len(rows) == result.output.strip().count("\n") - 1
    first = rows[0]
    told = result.output.splitlines()[2]
    assert told.startswith(f"| {first['of']}, {first['path_features']}, {first['part']} | {first['estimates']:,} |")
    assert f" {100 * first['coverage']['95']:.1f} |" in told
    assert told.endswith(f"| {first['circle_area_m2']:.2f} | {100 * first['inside_circle']:.1f} |")


def test_covariances_are_learned_for_the_weights_of_an_artifact_and_its_positions_stay(
    recipe: ScadfMoERecipe, exported: Path, bands: Path, tmp_path: Path
) -> None:
    assert recipe.certainty is not None
    certainty = recipe.certainty.model_copy(update={"steps": 1, "hidden": 4})
    other = recipe.model_copy(update={"certainty": certainty})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(other.model_dump(mode="json"), sort_keys=False))
    options = ["--paths", str(bands), "--trunk", str(exported / "scadf-moe")]
    command = ["fit", str(tmp_path / "recipe.yaml"), str(tmp_path / "run"), *options]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    export_run(other, tmp_path / "run", tmp_path / "artifact", bands)
    assert (tmp_path / "artifact" / "log.jsonl").read_bytes() == (exported / "scadf-moe" / "log.jsonl").read_bytes()
    drawn = next(draw_unseen(recipe, load_served(recipe, bands), "measured", np.ones(250, np.bool_), 8, "check"))
    (before, spread), (after, changed) = (
        locate(onnxruntime.InferenceSession(folder / "full.onnx", providers=["CPUExecutionProvider"]), drawn)
        for folder in (exported / "scadf-moe", tmp_path / "artifact")
    )
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.abs(changed - spread).max() > 1e-3


def test_the_graph_names_no_file_of_the_machine_that_exported_it(exported: Path) -> None:
    graph = (exported / "scadf-moe" / "full.onnx").read_bytes()
    assert b".py" not in graph
    assert str(Path(__file__).parents[3]).encode() not in graph


def test_a_model_without_covariances_is_not_exported(recipe: ScadfMoERecipe, run: Path, tmp_path: Path) -> None:
    with pytest.raises(NotServable, match="certainty"):
        export_run(recipe.for_trunk(), run, tmp_path / "artifact", tmp_path)


@pytest.mark.parametrize("change", [{"fusion": "concat"}, {"model": {"vertices": 1}}])
def test_a_model_that_does_not_locate_whole_trajectories_is_not_exported(
    recipe: ScadfMoERecipe, change: dict[str, object], tmp_path: Path, bands: Path
) -> None:
    with pytest.raises(NotServable):
        export_run(recipe.model_copy(update=change), tmp_path, tmp_path / "artifact", bands)


def test_example_trajectories_of_a_band_outside_training_are_refused(recipe: ScadfMoERecipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuple"):
        write_trajectories(recipe, tmp_path, 6e9, 3, tmp_path)
