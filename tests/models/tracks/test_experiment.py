import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from models.cli import app
from models.radio.path_table import PathTable, PathTablesMissing, take_users
from models.radio.tracing import OtherCarrier, walks_path
from models.tracks.experiment import load_experiment, run_experiment
from models.tracks.recipe import TracksRecipe
from models.tracks.training import digest_located


@pytest.fixture
def experiment(tracks_recipe: dict, tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tracks_recipe))
    content = {
        "family": "tracks",
        "base": "recipe.yaml",
        "seeds": [1, 2],
        "snapshots": [1, 5],
        "conditions": [
            {"label": "street radio, no fix"},
            {"label": "clean, fix of 1 m", "street": False, "accuracy": 1.0, "common": 0.5},
        ],
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_command_writes_a_table_of_all_methods_and_resumes(experiment: Path, paths: Path, tmp_path: Path) -> None:
    folders = ["--paths", str(paths), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    command = ["experiment", str(experiment), *folders]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    table = (tmp_path / "out" / "small.md").read_text()
    assert "mean of the seeds 1, 2" in table
    rows = [line for line in table.splitlines() if line.startswith(("| street radio", "| clean"))]
    assert [row.split(" | ")[1] for row in rows] == ["1", "5", "1", "5"]
    (checkpoint,) = (tmp_path / "runs" / "small").glob("*/1/checkpoint.pt")
    trained = checkpoint.stat().st_mtime_ns
    again = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    assert checkpoint.stat().st_mtime_ns == trained
    results = json.loads(again.stdout)
    entry = results[0]["tracks"]["sited in sight"]["street radio, no fix"]
    assert 0 < entry["5"]["network"]["mean"] < 100
    assert entry["1"]["alone"]["mean"] == pytest.approx(entry["5"]["alone"]["mean"])  # the same snapshots
    # a smoother of one snapshot is that snapshot
    assert entry["1"]["smoother"]["mean"] == pytest.approx(entry["1"]["alone"]["mean"], abs=1e-2)


def test_missing_walks_name_the_command_that_traces_them(experiment: Path, paths: Path, tmp_path: Path) -> None:
    loaded, recipes = load_experiment(experiment)
    walks_path(paths, "etoile", 900).unlink()
    with pytest.raises(PathTablesMissing, match=r"scenes trace etoile:900 --out \S+ --walks 40"):
        next(run_experiment(loaded, recipes, paths, tmp_path / "runs", torch.device("cpu")))


def test_the_recipe_learns_no_cell_that_the_mateformer_learned_and_none_of_the_test_city() -> None:
    base = Path("models/tracks/recipes/tracks.yaml")
    recipe = TracksRecipe.load(base)
    from models.mateformer.recipe import MateformerRecipe
    from models.radio.tracing import parse_cells
    from models.tracks.recipe import ARTIFACTS

    ours = MateformerRecipe.load(ARTIFACTS / recipe.artifact / "recipe.yaml")
    learned = {*parse_cells(ours.cells.train)}
    mine = {*parse_cells(recipe.cells.train)}
    assert not mine & learned
    assert not mine & {*parse_cells([*recipe.cells.validation, *recipe.cells.test])}
    tested = {place.removesuffix("-nlos") for place, _ in parse_cells(recipe.cells.test)}
    seen = {place.removesuffix("-nlos") for place, _ in learned | mine}
    assert not tested & seen


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"snapshots": [1, 11]}, "snapshots"),
        ({"snapshots": [0]}, "snapshots"),
        ({"seeds": [1, 1]}, "named twice: 1, 1"),
        ({"conditions": [{"label": "x"}, {"label": "x", "accuracy": 3.0}]}, "named twice: x, x"),
        ({"conditions": [{"label": "x", "accuracy": 0.0}]}, "accuracy"),
    ],
)
def test_an_experiment_that_cannot_be_made_is_refused_at_once(experiment: Path, changed: dict, complaint: str) -> None:
    experiment.write_text(yaml.safe_dump(yaml.safe_load(experiment.read_text()) | changed))
    with pytest.raises(ValidationError, match=complaint):
        load_experiment(experiment)


def test_no_cell_is_trained_on_and_tested(tracks_recipe: dict) -> None:
    tracks_recipe["cells"] |= {"train": ["etoile:900", "munich:1-3"], "test": ["munich:3-4"]}
    with pytest.raises(ValidationError, match="munich:3 is in two of train, validation and test"):
        TracksRecipe.model_validate(tracks_recipe)


def test_tables_of_another_carrier_are_refused(experiment: Path, paths: Path, tmp_path: Path) -> None:
    loaded, recipes = load_experiment(experiment)
    other = recipes[0].model_copy(update={"carrier_frequency": 28e9})
    with pytest.raises(OtherCarrier, match=r"is of 3\.5 GHz, the recipe of 28 GHz"):
        next(run_experiment(loaded, [other], paths, tmp_path / "runs", torch.device("cpu")))


def test_other_path_tables_are_other_walks(experiment: Path, paths: Path) -> None:
    (recipe, _), walks = load_experiment(experiment)[1], walks_path(paths, "etoile", 900)
    before = digest_located(recipe, paths)
    take_users(PathTable.load(walks), 0, 20).save(walks)
    assert digest_located(recipe, paths) != before
