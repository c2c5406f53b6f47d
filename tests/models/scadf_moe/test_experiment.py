import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from models.cli import RECIPES, app
from models.scadf_moe.data import build_trajectories
from models.scadf_moe.evaluation import evaluate_geometry, evaluate_trajectories, summarise_trajectories
from models.scadf_moe.experiment import RESULT_FILE, UnknownBudget, load_trajectory_experiment
from models.scadf_moe.recipe import TrajectoryRecipe

EXPERIMENTS = RECIPES / "trajectories" / "experiments"


class Config:
    vertices = 3


class Origin(torch.nn.Module):
    """Says that everybody is at the base station."""

    config = Config()

    def forward(self, csi: torch.Tensor, cues: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(csi), csi.shape[1] + 1, 2)


@pytest.fixture
def recipes(trajectory_recipe: TrajectoryRecipe, tmp_path: Path) -> Path:
    """A folder of recipes with a tiny experiment on trajectories in it."""
    folder = tmp_path / "recipes" / "trajectories"
    (folder / "experiments").mkdir(parents=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(trajectory_recipe.model_dump(mode="json")))
    content = {
        "base": "small.yaml",
        "figure": "Tiny",
        "variants": {"SCADF-MoE": None, "alone": {"model.vertices": 1, "fusion": "concat"}},
        "budgets": {"small": {"seeds": [1, 2], "layouts": ["etoile:900"], "overrides": {"optimiser.steps": 3}}},
    }
    (folder / "experiments" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "recipes"


def test_an_experiment_writes_tables_a_figure_and_goes_on_where_it_stopped(
    recipes: Path, bands: Path, tmp_path: Path
) -> None:
    folders = ["--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--recipes", recipes]
    words = ["experiment", "tiny", *map(str, folders)]
    done = CliRunner().invoke(app, [*words, "--cues", "measured"])
    assert done.exit_code == 0, done.output
    first = (tmp_path / "out" / "tiny.md").read_text()
    assert "## Measured cues" in first
    assert "## Exact" not in first
    results = list((tmp_path / "runs").rglob(RESULT_FILE))
    assert len(results) == 4
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert CliRunner().invoke(app, [*words, "--cues", "exact"]).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    both = (tmp_path / "out" / "tiny.md").read_text()
    assert "give the position away" in both
    rows = [line for line in both.splitlines() if line.startswith("| SCADF-MoE")]
    assert len(rows) == 4  # by layout and by band, with exact and with measured cues
    assert all("±" in row for row in rows)
    assert "etoile:900, unseen NLOS" in both
    assert "6 GHz, overall" in both
    assert "`model.vertices: 1`" in both
    assert "Not done yet" not in both
    assert (tmp_path / "out" / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_traced_is_one_line_not_a_traceback(recipes: Path, tmp_path: Path) -> None:
    words = ["experiment", "tiny", "--paths", tmp_path, "--runs", tmp_path / "runs", "--recipes", recipes]
    failed = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path)])
    assert "etoile-0900" in str(failed.exception)
    assert isinstance(failed.exception, SystemExit)


def test_squared_errors_are_those_of_the_points_by_what_they_are(
    trajectory_recipe: TrajectoryRecipe, bands: Path
) -> None:
    corpus = build_trajectories(trajectory_recipe, bands)
    errors = evaluate_trajectories(Origin(), trajectory_recipe, corpus, torch.device("cpu"))
    assert set(errors) == {6e9}
    truth = corpus.layout.positions[corpus.tested]
    squared = (truth.astype(np.float64) ** 2).sum(-1)
    np.testing.assert_allclose(errors[6e9].squared, squared, rtol=1e-5)
    np.testing.assert_allclose(errors[6e9].centroid, (truth.mean(1) ** 2).sum(-1), rtol=1e-4)
    summary = summarise_trajectories(errors)
    assert set(summary) == {"all", "6 GHz"}
    nlos = ~corpus.layout.line_of_sight[2, corpus.tested]
    unseen = corpus.held_out[corpus.tested]
    assert summary["all"]["overall"] == pytest.approx(squared.mean(), rel=1e-4)
    assert summary["all"]["unseen_nlos"] == pytest.approx(squared[unseen & nlos].mean(), rel=1e-4)
    assert summary["all"]["share_nlos"] == pytest.approx(nlos.mean(), abs=1e-4)


def test_exact_cues_alone_locate_whoever_is_in_sight(trajectory_recipe: TrajectoryRecipe, bands: Path) -> None:
    corpus = build_trajectories(trajectory_recipe, bands)
    exact = summarise_trajectories(evaluate_geometry(trajectory_recipe, corpus))["all"]
    measured = trajectory_recipe.model_copy(update={"cues": "measured"})
    noisy = summarise_trajectories(evaluate_geometry(measured, corpus))["all"]
    assert exact["los"] < 0.5
    assert exact["nlos"] > 10 * exact["los"]
    assert noisy["los"] > 2 * exact["los"]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_experiment_loads(path: Path) -> None:
    for budget in ("small", "paper"):
        _, recipes = load_trajectory_experiment(path, budget)
        digests = [recipe.digest for recipe in recipes.values()]
        assert len(set(digests)) == len(digests), f"{path}: two runs are the same recipe"
        assert len({run.seed for run in recipes}) > 1
    assert len({run.layout for run in recipes}) == 3  # of the paper's budget
    with pytest.raises(UnknownBudget, match="paper"):
        load_trajectory_experiment(path, "endless")


def test_the_bands_of_the_out_of_domain_experiment_are_apart() -> None:
    _, recipes = load_trajectory_experiment(EXPERIMENTS / "scadf-ood.yaml", "small")
    for recipe in recipes.values():
        assert recipe.test_bands == (6e9,)
        assert 6e9 not in recipe.train_bands


def test_a_misspelt_setting_is_refused_before_anything_is_trained(recipes: Path) -> None:
    file = recipes / "trajectories" / "experiments" / "tiny.yaml"
    content = yaml.safe_load(file.read_text())
    for misspelt, error in (({"fussion": "concat"}, ValidationError), ({"model.expert": 1}, TypeError)):
        file.write_text(yaml.safe_dump(content | {"variants": {"misspelt": misspelt}}))
        with pytest.raises(error):
            load_trajectory_experiment(file, "small")


def test_results_name_the_recipe_that_they_are_of(recipes: Path, bands: Path, tmp_path: Path) -> None:
    folders = ["--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--recipes", recipes]
    words = ["experiment", "tiny", *map(str, folders), "--cues", "exact"]
    file = recipes / "trajectories" / "experiments" / "tiny.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"variants": {"Concat": {"fusion": "concat"}}}))
    assert CliRunner().invoke(app, words).exit_code == 0
    file.write_text(file.read_text().replace("steps: 3", "steps: 4"))
    changed = CliRunner().invoke(app, words)
    assert "another recipe" in str(changed.exception)
    result = json.loads(next((tmp_path / "runs").rglob(RESULT_FILE)).read_text())
    assert result["steps"] == 3
