import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from models.cli import app
from models.families import find_yaml
from models.lwlm.experiment import LwlmExperiment, Run, load_experiment, read_result, run_experiment, run_folder
from models.lwlm.recipe import LwlmRecipe
from models.lwlm.report import write_tables
from models.pipeline.experiment import RESULT_FILE, UnknownBudget

CPU = torch.device("cpu")


@pytest.fixture
def content() -> dict:
    return {
        "family": "lwlm",
        "base": "small.yaml",
        "title": "A trial",
        "tasks": ["toa", "multi"],
        "compared": ["ours", "not pretrained"],
        "variants": {"ours": None, "not pretrained": {"decoding.pretrained": False}},
        "budgets": {"small": {"seeds": [1], "labels": [30]}, "large": {"seeds": [1], "labels": [30, 60]}},
    }


@pytest.fixture
def file(lwlm_recipe: LwlmRecipe, content: dict, tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(lwlm_recipe.model_dump(mode="json")))
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_run_has_its_labels_its_seed_and_its_variants_changes(file: Path) -> None:
    _, recipes = load_experiment(file, "large")
    assert list(recipes) == [Run(variant, labels, 1) for variant in ("ours", "not pretrained") for labels in (30, 60)]
    for run, recipe in recipes.items():
        assert (recipe.decoding.labels, recipe.decoding.seed) == (run.labels, run.seed)
        assert recipe.decoding.pretrained == (run.variant == "ours")


def test_an_unknown_budget_is_one_line_that_names_the_known_ones(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownBudget, match="small, large"):
        load_experiment(file, "huge")
    failed = CliRunner().invoke(app, ["experiment", str(file), "--budget", "huge", "--out", str(tmp_path)])
    assert isinstance(failed.exception, SystemExit)
    assert "no budget 'huge'" in str(failed.exception)
    assert "\n" not in str(failed.exception).strip()


def test_runs_are_complete_shared_and_not_touched_again(
    file: Path, content: dict, streets: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    experiment, recipes = load_experiment(file, "small")
    first = next(run_experiment(recipes, streets, runs, CPU))  # stopped after one run
    assert first == Run("ours", 30, 1)
    assert "Not done yet: not pretrained 30 1." in write_tables(experiment, recipes, runs, "the command")

    kept = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    assert run_folder(recipes[first], runs) / RESULT_FILE in kept
    assert list(run_experiment(recipes, streets, runs, CPU)) == list(recipes)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    table = write_tables(experiment, recipes, runs, "the command")
    assert "Not done yet" not in table
    assert table.count("| ours") == 2  # one row for each task

    everything = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    other = file.with_name("other.yaml")  # another experiment with the same runs
    other.write_text(
        yaml.safe_dump(content | {"title": "Another", "variants": {"ours": None}, "compared": ["ours"] * 2})
    )
    list(run_experiment(load_experiment(other, "small")[1], streets, runs, CPU))
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == everything

    (tmp_path / "all").mkdir()
    runs.rename(tmp_path / "all" / "lwlm")
    folders = ["--paths", str(streets), "--runs", str(tmp_path / "all"), "--out", str(tmp_path / "out")]
    listed = json.loads(CliRunner().invoke(app, ["experiment", str(file), *folders, "--json"]).stdout)
    kept_results = [read_result(recipe, tmp_path / "all" / "lwlm") or {} for recipe in recipes.values()]
    assert listed == [run._asdict() | result for run, result in zip(recipes, kept_results, strict=True)]


def test_every_committed_experiment_loads_with_both_budgets() -> None:
    files = find_yaml("lwlm", "experiments")
    assert {path.stem for path in files} >= {
        f"lwlm-{name}" for name in ("toa", "aoa", "single", "multi", "few-labels", "unseen-bs", "ablation")
    }
    for path in files:
        for budget in ("small", "paper"):
            experiment, recipes = load_experiment(path, budget)
            assert set(experiment.compared) <= set(experiment.variants)
            assert len({run.seed for run in recipes}) >= 3
            digests = [recipe.digest for recipe in recipes.values()]
            assert len(set(digests)) == len(digests), f"{path}: two runs are the same recipe"
        assert set(LwlmExperiment.load(path)[0].budgets) == {"small", "paper"}
