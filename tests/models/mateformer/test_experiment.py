import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from models.cli import app
from models.families import find_yaml
from models.mateformer.conditions import UnknownCondition
from models.mateformer.experiment import (
    RESULT_FILE,
    MateformerExperiment,
    load_experiment,
    run_experiment,
)
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.learner import LOG_FILE, RecipeChanged

CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def content() -> dict:
    return {
        "family": "mateformer",
        "base": "../small.yaml",
        "overrides": {"optimiser.steps": 3},
        "variants": {"base": None, "upright": {"symmetry.rotate": False, "symmetry.mirror": False}},
        "conditions": ["gnss_1m", "no_gnss"],
        "users": 4,
    }


@pytest.fixture
def file(mateformer_recipe: MateformerRecipe, content: dict, tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(mateformer_recipe.model_dump(mode="json")))
    (tmp_path / "experiments").mkdir()
    path = tmp_path / "experiments" / "trial.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(experiment: MateformerExperiment, recipes: dict[str, MateformerRecipe], folder: Path) -> str:
    table = folder / "trial.md"
    run_experiment(experiment, recipes, DATA, folder / "runs", table, CPU, ("validation", "test"), "the command")
    return table.read_text()


def test_every_variant_has_the_common_overrides_and_its_own(file: Path, mateformer_recipe: MateformerRecipe) -> None:
    _, recipes = load_experiment(file)
    assert {recipe.optimiser.steps for recipe in recipes.values()} == {3}
    assert recipes["base"].symmetry == mateformer_recipe.symmetry
    assert not recipes["upright"].symmetry.rotate


@pytest.mark.parametrize(
    ("variant", "error", "complaint"),
    [
        ({"optimiser.stepps": 3}, ValidationError, "stepps"),
        ({"symetry.rotate": False}, ValidationError, "symetry"),
        ({"model.dept": 3}, TypeError, "dept"),
    ],
)
def test_a_misspelt_override_is_refused_before_anything_is_trained(
    file: Path, content: dict, variant: dict, error: type[Exception], complaint: str
) -> None:
    file.write_text(yaml.safe_dump(content | {"variants": {"base": None, "misspelt": variant}}))
    with pytest.raises(error, match=complaint):
        load_experiment(file)


def test_an_unknown_condition_is_refused(file: Path, content: dict) -> None:
    file.write_text(yaml.safe_dump(content | {"conditions": ["gnss_1m", "sunshine"]}))
    with pytest.raises(UnknownCondition, match="sunshine"):
        load_experiment(file)


def test_every_variant_is_trained_measured_and_compared_with_the_first(file: Path, tmp_path: Path) -> None:
    table = run(*load_experiment(file), tmp_path)
    assert table.startswith("    the command\n")
    rows = [line for line in table.splitlines() if line.startswith(("| base", "| upright"))]
    assert len(rows) == 4  # two variants, validation and test
    assert ["%" in row for row in rows] == [False, True, False, True]
    result = json.loads((tmp_path / "runs" / "upright" / RESULT_FILE).read_text())
    assert set(result["mean_m"]) == {"validation", "test"}
    assert set(result["mean_m"]["validation"]) == {"gnss_1m", "no_gnss"}
    assert result["steps"] == 3


def test_a_complete_variant_is_not_touched_again(file: Path, tmp_path: Path) -> None:
    first = run(*load_experiment(file), tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert run(*load_experiment(file), tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (tmp_path / "all").mkdir()
    (tmp_path / "runs").rename(tmp_path / "all" / file.stem)
    folders = ["--paths", str(DATA), "--runs", str(tmp_path / "all"), "--out", str(tmp_path)]
    listed = json.loads(CliRunner().invoke(app, ["experiment", str(file), *folders, "--json"]).stdout)
    for one, name in zip(listed, ("base", "upright"), strict=True):
        kept_result = json.loads((tmp_path / "all" / file.stem / name / RESULT_FILE).read_text())
        assert one == {"variant": name} | kept_result


def test_other_conditions_are_measured_without_training_again(file: Path, content: dict, tmp_path: Path) -> None:
    run(*load_experiment(file), tmp_path)
    log = (tmp_path / "runs" / "base" / LOG_FILE).read_bytes()
    file.write_text(yaml.safe_dump(content | {"conditions": ["street"]}, sort_keys=False))
    assert "street" in run(*load_experiment(file), tmp_path)
    assert (tmp_path / "runs" / "base" / LOG_FILE).read_bytes() == log


def test_the_table_shows_the_complete_variants_when_one_fails(file: Path, content: dict, tmp_path: Path) -> None:
    content["variants"]["untraced"] = {"cells.train": ["etoile:901"]}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(FileNotFoundError):
        run(*load_experiment(file), tmp_path)
    table = (tmp_path / "trial.md").read_text()
    assert "| upright" in table
    assert "Not done yet: untraced." in table


def test_a_variant_whose_recipe_changed_is_refused(file: Path, content: dict, tmp_path: Path) -> None:
    run(*load_experiment(file), tmp_path)
    file.write_text(yaml.safe_dump(content | {"overrides": {"optimiser.steps": 4}}, sort_keys=False))
    with pytest.raises(RecipeChanged):
        run(*load_experiment(file), tmp_path)


def test_every_committed_experiment_loads() -> None:
    files = find_yaml("mateformer", "experiments")
    assert files
    for path in files:
        _, recipes = load_experiment(path)
        digests = [recipe.digest for recipe in recipes.values()]
        assert len(set(digests)) == len(digests), f"{path}: two variants are the same recipe"
