from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from typer.testing import CliRunner

from models.artifact import TrajectoryManifest, load_artifact
from models.cli import app
from models.scadf_moe.data import build_corpus
from models.scadf_moe.export import NotServable, export_run, write_trajectories
from models.scadf_moe.learner import ScadfMoELearner
from models.scadf_moe.recipe import ScadfMoERecipe
from reference_db import read_fingerprint_file


@pytest.fixture(scope="module")
def recipe(scadf_moe_recipe: ScadfMoERecipe) -> ScadfMoERecipe:
    return scadf_moe_recipe.model_copy(update={"path_features": "served"})


@pytest.fixture(scope="module")
def run(recipe: ScadfMoERecipe, bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    ScadfMoELearner(recipe, build_corpus(recipe, bands), folder, torch.device("cpu")).run(until=10)
    return folder


@pytest.fixture(scope="module")
def exported(recipe: ScadfMoERecipe, run: Path, bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    arguments = [folder / "recipe.yaml", run, folder / "scadf-moe", "--paths", bands, "--shown", folder / "shown"]
    result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def test_an_artifact_states_its_cells_bands_and_error_radii(recipe: ScadfMoERecipe, exported: Path) -> None:
    manifest = load_artifact(exported / "scadf-moe", TrajectoryManifest).manifest
    assert manifest.cells == ("etoile-0900",)
    assert manifest.carrier_frequencies == recipe.train_bands
    assert (manifest.vertices, manifest.radius) == (3, 8.0)
    radii = manifest.radii
    for kind, one in (("measured", radii.measured), ("estimated", radii.estimated)):
        assert manifest.metrics[f"median error of unseen points, {kind} path features"] < one.vertex
        assert 0 < one.centroid < 100
    for file in ("README.md", "recipe.yaml", "log.jsonl", "weights.safetensors"):
        assert (exported / "scadf-moe" / file).stat().st_size > 0


def test_the_error_radii_hold_for_trajectories_outside_the_calibration(exported: Path) -> None:
    artifact = load_artifact(exported / "scadf-moe", TrajectoryManifest)
    v = artifact.manifest.vertices
    cell, users = read_fingerprint_file(exported / "shown" / "etoile-0900-trajectories.safetensors")
    features = np.load(exported / "shown" / "etoile-0900-cues.npy").reshape(-1, v, 4)
    assert (cell.cell_id, cell.carrier_frequency) == ("etoile-0900", 2.6e9)
    csi = users.csi.view(np.float32).reshape(-1, v, cell.antennas, cell.subcarriers, 2)
    session = onnxruntime.InferenceSession(artifact.graphs["full"], providers=["CPUExecutionProvider"])
    points = session.run(None, {"csi": csi, "cues": features})[0][:, :-1].reshape(-1, 2)
    errors = np.linalg.norm(points - users.positions, axis=1)
    assert (errors <= artifact.manifest.radii.measured.vertex).mean() > 0.85


@pytest.mark.parametrize("change", [{"fusion": "concat"}, {"model": {"vertices": 1}}])
def test_a_model_that_does_not_locate_whole_trajectories_is_not_exported(
    recipe: ScadfMoERecipe, change: dict[str, object], tmp_path: Path, bands: Path
) -> None:
    with pytest.raises(NotServable):
        export_run(recipe.model_copy(update=change), tmp_path, tmp_path / "artifact", bands)


def test_example_trajectories_of_a_band_outside_training_are_refused(recipe: ScadfMoERecipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuple"):
        write_trajectories(recipe, tmp_path, 6e9, 3, tmp_path)
