"""`fingerpost-train` as a researcher types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.artifact import load_artifact
from models.mateformer.recipe import MateformerRecipe
from reference_db import read_fingerprint_file

DATA = Path(__file__).parent / "data"


def run(*words: object, succeeds: bool = True) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "models.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (done.returncode == 0) == succeeds, done.stderr
    return done


@pytest.fixture
def recipe_file(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(mateformer_recipe.model_dump(mode="json")))
    return path


def test_from_path_tables_to_an_artifact(
    recipe_file: Path, mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    trained = run("fit", recipe_file, tmp_path / "run", "--paths", DATA)
    assert "etoile-0900" in trained.stdout
    assert "step/s" in trained.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == mateformer_recipe.optimiser.steps
    run("export", recipe_file, tmp_path / "run", tmp_path / "artifact", "--paths", DATA)
    exported = load_artifact(tmp_path / "artifact")
    assert exported.manifest.metrics == {}
    words = ("evaluate", tmp_path / "artifact", "--out", tmp_path / "evaluation", "--users", 5, "--split", "test")
    failed = run(*words, "--paths", tmp_path, succeeds=False)
    assert "etoile-0900" in failed.stderr
    assert "Traceback" not in failed.stderr
    measured = run(*words, "--paths", DATA, "--conditions", "headline", "--write")
    assert "ratio to the best kNN" in measured.stdout
    assert "user/s" in measured.stderr
    again = json.loads(run(*words, "--paths", DATA, "--conditions", "headline", "--json").stdout)
    assert again == json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert again["splits"]
    report = run("report", recipe_file, tmp_path / "run", "--paths", DATA, "--split", "test", "--json")
    assert json.loads(report.stdout) == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    artifact = load_artifact(tmp_path / "artifact")
    assert artifact.manifest.metrics["test/mateformer/gnss_1m/mean_m"] > 0
    assert {path.name for path in artifact.directory.iterdir()} >= {"recipe.yaml", "log.jsonl", "evaluation.png"}


def test_a_surveyed_cell_is_a_fingerprint_file(
    recipe_file: Path, mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    words = ("--recipe", recipe_file, "--out", tmp_path, "--paths", DATA, "--references", 200, "--users", 40)
    run("scenes", "survey", "etoile:900", *words)
    cell, references = read_fingerprint_file(tmp_path / "etoile-0900-references.safetensors")
    _, users = read_fingerprint_file(tmp_path / "etoile-0900-users.safetensors")
    assert (len(references), len(users)) == (200, 40)
    assert cell.array == mateformer_recipe.radio.array
    assert 48 < cell.latitude_deg < 49
    assert not {tuple(p) for p in references.positions.tolist()} & {tuple(p) for p in users.positions.tolist()}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("scenes", "trace", "atlantis:0"), "atlantis"),
        (("scenes", "trace", "munich:0", "--shard", "2/2"), "i/n"),
        (("scenes", "trace", "munich:0", "--street", "traffic-100"), "cars, cars-moved, facade, and traffic-1 to"),
        (("scenes", "survey", "etoile:900", "--references", "5000"), "asked for"),
        (("scenes", "survey", "etoile:901"), "etoile-0901"),
    ],
)
def test_a_mistake_is_one_line_not_a_traceback(
    recipe_file: Path, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    extra = ("--recipe", recipe_file, "--out", tmp_path, "--paths", DATA) if words[1] == "survey" else ()
    failed = run(*words, *extra, succeeds=False)
    assert complaint in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("command", ["report", "export"])
def test_a_run_of_another_recipe_is_refused(
    recipe_file: Path, mateformer_recipe: MateformerRecipe, tmp_path: Path, command: str
) -> None:
    run("fit", recipe_file, tmp_path / "run", "--paths", DATA, "--until", 1)
    recipe_file.write_text(yaml.safe_dump(mateformer_recipe.model_copy(update={"seed": 8}).model_dump(mode="json")))
    out = (tmp_path / "artifact",) if command == "export" else ()
    failed = run(command, recipe_file, tmp_path / "run", *out, "--paths", DATA, succeeds=False)
    assert "another recipe" in failed.stderr
    assert "Traceback" not in failed.stderr
