import json
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from models.cli import app
from models.families import find_yaml
from models.pipeline.experiment import RESULT_FILE, UnknownBudget, save_result
from models.scadf_moe.data import build_corpus
from models.scadf_moe.evaluation import evaluate_geometry, evaluate_trajectories, summarise_trajectories
from models.scadf_moe.experiment import load_experiment
from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.recipe import ScadfMoERecipe
from models.scadf_moe.report import write_tables

EXPERIMENTS = find_yaml("scadf_moe", "experiments")


class Config:
    vertices = 3


class Origin(torch.nn.Module):
    """Says that everybody is at the base station."""

    config = Config()

    def forward(self, csi: torch.Tensor, path_features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(csi), csi.shape[1] + 1, 2)


@pytest.fixture
def tiny(scadf_moe_recipe: ScadfMoERecipe, tmp_path: Path) -> Path:
    """The file of a tiny experiment."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(scadf_moe_recipe.model_dump(mode="json")))
    content = {
        "family": "scadf-moe",
        "base": "small.yaml",
        "figure": "Tiny",
        "variants": {"SCADF-MoE": None, "alone": {"model.vertices": 1, "fusion": "concat"}},
        "budgets": {"small": {"seeds": [1, 2], "layouts": ["etoile:900"], "overrides": {"optimiser.steps": 3}}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_an_experiment_writes_tables_and_a_figure_and_resumes(tiny: Path, bands: Path, tmp_path: Path) -> None:
    folders = ["--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    words = ["experiment", str(tiny), *map(str, folders)]
    done = CliRunner().invoke(app, [*words, "--path-features", "measured"])
    assert done.exit_code == 0, done.output
    first = (tmp_path / "out" / "tiny.md").read_text()
    assert "## Measured path features" in first
    assert "## Exact" not in first
    results = list((tmp_path / "runs").rglob(RESULT_FILE))
    assert len(results) == 4
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert CliRunner().invoke(app, [*words, "--path-features", "exact"]).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    listed = json.loads(CliRunner().invoke(app, [*words, "--path-features", "measured", "--json"]).stdout)
    assert [(one["path_features"], one["variant"], one["seed"]) for one in listed[:2]] == [
        ("exact", "SCADF-MoE", 1),
        ("exact", "SCADF-MoE", 2),
    ]
    kept_results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob(RESULT_FILE)]
    assert len(listed) == len(kept_results)
    assert all(any(result.items() <= one.items() for one in listed) for result in kept_results)
    both = (tmp_path / "out" / "tiny.md").read_text()
    assert "give the position away" in both
    rows = [line for line in both.splitlines() if line.startswith("| SCADF-MoE")]
    assert len(rows) == 4  # by layout and by band, with exact and with measured path features
    assert all("±" in row for row in rows)
    assert "etoile:900, unseen NLOS" in both
    assert "6 GHz, overall" in both
    assert "`model.vertices: 1`" in both
    assert "Not done yet" not in both
    assert (tmp_path / "out" / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_show_wholly_unseen_trajectories_and_what_no_model_can_do_better(
    tiny: Path, bands: Path, tmp_path: Path
) -> None:
    words = ["experiment", tiny, "--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    assert CliRunner().invoke(app, [*map(str, words), "--path-features", "exact"]).exit_code == 0
    lines = (tmp_path / "out" / "tiny.md").read_text().splitlines()
    head = next(line for line in lines if line.startswith("| layout |")).split(" | ")
    oracle = next(line for line in lines if line.startswith("| true centroid")).split(" | ")
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob(RESULT_FILE)]
    for column, tested in (("overall", results[0]), ("all unseen", results[0]["all_unseen"])):
        scatter = tested["oracle_centroid_mse_m2"]["all"]["overall"]
        assert oracle[head.index(f"etoile:900, {column}")] == f"{scatter:.2f} ± 0.00"
    assert all(result["all_unseen"]["mse_m2"] != result["mse_m2"] for result in results)


def test_results_of_before_lack_figures_and_stay(tiny: Path, bands: Path, tmp_path: Path) -> None:
    words = ["experiment", tiny, "--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    command = [*map(str, words), "--path-features", "exact"]
    assert CliRunner().invoke(app, command).exit_code == 0
    for path in (tmp_path / "runs").rglob(RESULT_FILE):
        result = json.loads(path.read_text())
        del result["all_unseen"], result["oracle_centroid_mse_m2"]
        path.write_text(json.dumps(result))
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert not any("all_unseen" in path.read_text() for path in (tmp_path / "runs").rglob(RESULT_FILE))
    rows = (tmp_path / "out" / "tiny.md").read_text().splitlines()
    assert "| true centroid for every point, no model | - | - | - | 0 |" in rows


def test_an_experiment_names_the_path_features_that_it_trains_with(tiny: Path, bands: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny.read_text()) | {
        "path_features": ["exact"],
        "variants": {"Concat": {"fusion": "concat"}},
    }
    tiny.write_text(yaml.safe_dump(content))
    words = ["experiment", tiny, "--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    assert {path.name for path in (tmp_path / "runs" / "tiny" / "small").iterdir()} == {"exact"}
    assert CliRunner().invoke(app, [*map(str, words), "--path-features", "estimated"]).exit_code == 0
    assert {path.name for path in (tmp_path / "runs" / "tiny" / "small").iterdir()} == {"exact", "estimated"}


def test_a_seed_counts_in_a_mean_once_all_of_its_runs_are_complete(tiny: Path, bands: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny.read_text())
    content["variants"] = {"Concat": {"fusion": "concat"}}
    content["overrides"] = {"train_bands": [2.6e9, 6e9, 28e9]}
    content["budgets"]["small"] |= {"left_out": [6e9, 28e9]}
    tiny.write_text(yaml.safe_dump(content))
    experiment, recipes = load_experiment(tiny, "small")
    for run, recipe in recipes.items():
        if (run.seed, run.left_out) != (2, 28e9):
            folder = run.folder(tmp_path)
            folder.mkdir(parents=True)
            errors = {"overall": run.left_out / 1e9 + run.seed}
            summary = {"all": errors, f"{run.left_out / 1e9:g} GHz": errors}
            save_result({"recipe": recipe.digest, "parameters": 1, "mse_m2": summary}, folder)
    text = write_tables(experiment, recipes, {recipes[run].path_features: tmp_path}, "command")
    head = next(line for line in text.splitlines() if line.startswith("| all layouts")).split(" | ")
    by_layout, by_band = (line.split(" | ") for line in text.splitlines() if line.startswith("| Concat"))
    assert by_layout[1] == "18.00"  # (6 + 28) / 2 + 1, of the first seed only
    assert by_band[head.index("6 GHz, overall")] == "7.50 ± 0.71"
    assert by_band[head.index("28 GHz, overall")] == "29.00"
    assert "Not done yet: etoile:900 without 28 GHz, seed 2 (1 of the models)." in text


def test_a_missing_path_table_is_one_line_not_a_traceback(tiny: Path, tmp_path: Path) -> None:
    words = ["experiment", tiny, "--paths", tmp_path, "--runs", tmp_path / "runs"]
    failed = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path)])
    assert "etoile-0900" in str(failed.exception)
    assert isinstance(failed.exception, SystemExit)


def test_squared_errors_are_summarised_by_line_of_sight_and_by_seen_and_unseen_points(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    corpus = build_corpus(scadf_moe_recipe, bands)
    errors = evaluate_trajectories(Origin(), scadf_moe_recipe, corpus, torch.device("cpu"))
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


def test_exact_path_features_alone_locate_users_in_line_of_sight(scadf_moe_recipe: ScadfMoERecipe, bands: Path) -> None:
    corpus = build_corpus(scadf_moe_recipe, bands)
    exact = summarise_trajectories(evaluate_geometry(scadf_moe_recipe, corpus))["all"]
    measured = scadf_moe_recipe.model_copy(update={"path_features": "measured"})
    noisy = summarise_trajectories(evaluate_geometry(measured, corpus))["all"]
    assert exact["los"] < 0.5
    assert exact["nlos"] > 10 * exact["los"]
    assert noisy["los"] > 2 * exact["los"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_committed_experiment_loads(path: Path) -> None:
    for budget in ("small", "paper"):
        _, recipes = load_experiment(path, budget)
        digests = [recipe.digest for recipe in recipes.values()]
        assert len(set(digests)) == len(digests), f"{path}: two runs are the same recipe"
        assert len({run.seed for run in recipes}) > 1
    assert len({run.layout for run in recipes}) == 3  # of the paper's budget
    with pytest.raises(UnknownBudget, match="paper"):
        load_experiment(path, "endless")


def test_the_out_of_domain_experiment_tests_each_band_with_models_that_are_trained_at_the_others() -> None:
    (path,) = (path for path in EXPERIMENTS if path.stem == "scadf-ood")
    _, recipes = load_experiment(path, "small")
    bands = {2.6e9, 6e9, 28e9}
    for run, recipe in recipes.items():
        assert recipe.test_bands == (run.left_out,)
        assert set(recipe.train_bands) == bands - {run.left_out}
    assert {(run.layout, run.left_out) for run in recipes} == set(product({run.layout for run in recipes}, bands))
    assert len({run.folder(Path()) for run in recipes}) == len(recipes)


def test_bands_that_are_left_out_in_turn_have_a_column_each(tiny: Path, bands: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny.read_text())
    content["variants"] = {"Concat": {"fusion": "concat"}}
    content["overrides"] = {"train_bands": [2.6e9, 6e9, 28e9]}
    content["budgets"]["small"] |= {"left_out": [6e9, 28e9], "seeds": [1]}
    tiny.write_text(yaml.safe_dump(content))
    words = ["experiment", tiny, "--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    assert CliRunner().invoke(app, [*map(str, words), "--path-features", "exact"]).exit_code == 0
    results = {path.parts[-4]: json.loads(path.read_text()) for path in (tmp_path / "runs").rglob(RESULT_FILE)}
    tested = {folder: set(result["mse_m2"]) for folder, result in results.items()}
    assert tested == {"without-6GHz": {"all", "6 GHz"}, "without-28GHz": {"all", "28 GHz"}}
    text = (tmp_path / "out" / "tiny.md").read_text()
    assert "Each of 6, 28 GHz is tested by models that were trained at the others" in text
    by_layout, by_band = (
        [cell.strip() for cell in line.split("|")[2:4]] for line in text.splitlines() if line.startswith("| Concat")
    )
    errors = [result["mse_m2"]["all"]["overall"] for result in results.values()]
    assert by_layout[0] == f"{np.mean(errors):.2f}"
    assert by_band[0] == f"{results['without-6GHz']['mse_m2']['6 GHz']['overall']:.2f}"


def test_the_design_of_the_readout_experiment_separates_its_factors() -> None:
    """Where tasks read their own tokens, two of the three common factors meet at all levels, in both models alike."""
    (path,) = (path for path in EXPERIMENTS if path.stem == "scadf-readout")
    experiment, recipes = load_experiment(path, "small")
    assert experiment.path_features == ("exact",)
    assert {(recipe.fusion, recipe.readout) for recipe in recipes.values()} >= {
        *((fusion, "pooled") for fusion in FUSIONS),
        ("soft-moe", "own"),
        ("soft-moe", "numbers"),
        ("scadf-moe", "own"),
    }
    cells, runs = {}, {}
    for recipe in {run.variant: recipe for run, recipe in recipes.items()}.values():
        if recipe.readout == "own":
            config = recipe.config()
            cell = (recipe.phase, config.residual_init, config.experts * config.slots)
            cells.setdefault(recipe.fusion, set()).add(cell)
            runs.setdefault(recipe.fusion, []).append((cell, recipe.diversity == 0, recipe.diversity_kind))
    assert cells["soft-moe"] == cells["scadf-moe"]
    assert len(cells["soft-moe"]) == len(runs["soft-moe"]) == 4
    for one, other in combinations(range(3), 2):
        assert len({(cell[one], cell[other]) for cell in cells["soft-moe"]}) == 4
    design = [
        [1, not phase, residual == 1, slots == 20, none, kind == "paired"]
        for (phase, residual, slots), none, kind in runs["scadf-moe"]
    ]
    assert np.linalg.matrix_rank(np.array(design, float)) == len(design) == 6


def test_a_misspelt_setting_is_refused_before_anything_is_trained(tiny: Path) -> None:
    file = tiny
    content = yaml.safe_load(file.read_text())
    for misspelt, error in (({"fussion": "concat"}, ValidationError), ({"model.expert": 1}, TypeError)):
        file.write_text(yaml.safe_dump(content | {"variants": {"misspelt": misspelt}}))
        with pytest.raises(error):
            load_experiment(file, "small")


def test_results_belong_to_their_recipe(tiny: Path, bands: Path, tmp_path: Path) -> None:
    folders = ["--paths", bands, "--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    words = ["experiment", str(tiny), *map(str, folders), "--path-features", "exact"]
    file = tiny
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"variants": {"Concat": {"fusion": "concat"}}}))
    assert CliRunner().invoke(app, words).exit_code == 0
    file.write_text(file.read_text().replace("steps: 3", "steps: 4"))
    changed = CliRunner().invoke(app, words)
    assert "another recipe" in str(changed.exception)
    result = json.loads(next((tmp_path / "runs").rglob(RESULT_FILE)).read_text())
    assert result["steps"] == 3
