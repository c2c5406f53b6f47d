"""Experiments from end to end, with models of a few steps."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models.alloc.experiment import Condition, load_experiment
from models.alloc.location import draw_users
from models.alloc.runs import OtherTables, read_errors, run_trials
from models.alloc.streets import Survey, load_street
from models.alloc.trials import Trial, plan_trials
from models.cli import app
from models.pipeline.learner import CHECKPOINT_FILE
from models.radio.path_table import PathTable, PathTablesMissing, take_users
from models.radio.tracing import table_path

CPU = torch.device("cpu")
Write = Callable[[dict], Path]
LEARNING = ["cnn", "mfcnet", "multi-task", "alloc", "alloc-random", "icl", "ra-lwlm", "mateformer"]


def run(file: Path, paths: Path, runs: Path, jobs: int = 1) -> list[Trial]:
    experiment, rivals, seeds = load_experiment(file, "small")
    trials = plan_trials(experiment, rivals, seeds)
    return list(run_trials(trials, experiment, rivals, paths, runs, jobs, CPU))


def test_every_method_locates_every_user(write: Write, content: dict, paths: Path, tmp_path: Path) -> None:
    content |= {"methods": ["fix", "knn", "alloc-iterative", *LEARNING], "tested": ["A"]}
    content["conditions"] = [{"label": "all", "references": 200, "neighbours": 20}]
    for trial in run(write(content), paths, tmp_path / "runs"):
        errors = read_errors(trial, tmp_path / "runs")
        assert errors is not None
        assert errors.shape[-1] == 20
        assert np.isfinite(errors).all()
        if trial.method == "knn":
            assert errors.mean(-1).min() < 5  # trained rivals have learned for six steps only
        if trial.method == "fix":
            assert errors.max() <= np.sqrt(2)


def test_what_is_done_is_not_done_again_and_what_is_missing_is(
    write: Write, content: dict, paths: Path, tmp_path: Path
) -> None:
    content |= {"methods": ["cnn", "alloc"], "tested": ["A"], "conditions": [{"label": "all", "references": 200}]}
    file, runs = write(content), tmp_path / "runs"
    trials = run(file, paths, runs)
    stamps = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    trials[1].errors_file(runs).unlink()
    run(file, paths, runs)
    for path, stamp in stamps.items():
        assert (path.stat().st_mtime_ns == stamp) == (path != trials[1].errors_file(runs)), path


def test_two_processes_train_what_one_does(write: Write, content: dict, paths: Path, tmp_path: Path) -> None:
    content |= {"methods": ["cnn"], "conditions": [{"label": "all", "references": 200}]}
    file = write(content)
    alone, together = (
        [read_errors(trial, tmp_path / f"jobs-{jobs}") for trial in run(file, paths, tmp_path / f"jobs-{jobs}", jobs)]
        for jobs in (1, 2)
    )
    np.testing.assert_array_equal(alone, together)


def test_a_fresh_head_leaves_the_backbone_as_it_was(write: Write, content: dict, paths: Path, tmp_path: Path) -> None:
    content |= {"methods": ["multi-task"], "tested": ["B"], "conditions": [{"label": "all", "references": 200}]}
    content["lessons"] = {"A, then B": {"learned": ["A"], "then": ["B"], "steps": 5}}
    (trial,) = run(write(content), paths, tmp_path)
    (training,) = trial.trainings
    assert training.before is not None
    first, then = (
        torch.load(tmp_path / one.folder / CHECKPOINT_FILE, weights_only=True)["averaged"]
        for one in (training.before, training)
    )
    changed = {name for name in then if name != "n_averaged" and not torch.equal(first[name], then[name])}
    assert changed == {name for name in then if ".heads." in name}


@pytest.mark.parametrize("method", ["cnn", "alloc", "mateformer"])
def test_a_second_lesson_takes_as_many_steps_as_it_says(
    method: str, write: Write, content: dict, paths: Path, tmp_path: Path
) -> None:
    content |= {"methods": [method], "tested": ["A"], "conditions": [{"label": "all", "references": 200}]}
    content["lessons"] = {"A, then B": {"learned": ["A"], "then": ["B"], "steps": 3}}
    (trial,) = run(write(content), paths, tmp_path)
    (training,) = trial.trainings
    assert training.before is not None
    steps = [
        torch.load(tmp_path / one.folder / CHECKPOINT_FILE, weights_only=True)["step"]
        for one in (training.before, training)
    ]
    assert steps == [6, 3]


def test_transfer_starts_where_the_first_lesson_ended(write: Write, content: dict, paths: Path, tmp_path: Path) -> None:
    """The data-to-label model keeps the units of its first street, so that it still locates users there."""
    content |= {"methods": ["cnn"], "tested": ["A"], "conditions": [{"label": "all", "references": 200}]}
    content["lessons"] = {
        "A": {"learned": ["A"]},
        "A, then B": {"learned": ["A"], "then": ["B"], "steps": 1},
    }
    before, after = (read_errors(trial, tmp_path) for trial in run(write(content), paths, tmp_path))
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(before, after, atol=1.0)  # one step of a small rate moves estimates little
    assert not np.array_equal(before, after)


def test_all_methods_locate_the_same_users_with_the_same_fixes(
    write: Write, content: dict, paths: Path, street_of: object
) -> None:
    _, rivals, _ = load_experiment(write(content), "small")
    street = load_street("A", street_of, rivals.radio, rivals.carrier_frequency, rivals.users, paths)  # type: ignore[arg-type]
    survey = Survey.of(street, None)
    first, again = (draw_users(survey, Condition(label="", noise=0.2, fix=3.0), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.csi, again.csi)
    np.testing.assert_array_equal(first.coarse, again.coarse)
    offset = first.coarse - street.users.positions
    assert np.abs(offset).max() <= 3
    assert first.accuracy == pytest.approx(3 / np.sqrt(3))
    ratio = first.csi / street.users.csi
    assert ratio.real.std() == pytest.approx(0.2, rel=0.1)
    assert np.abs(ratio.imag).max() < 1e-3
    other = draw_users(survey, Condition(label="", fix=3.0), seed=5)
    assert not np.array_equal(first.coarse, other.coarse)


def test_without_a_fix_the_signal_says_where_to_look(
    write: Write, content: dict, paths: Path, street_of: object
) -> None:
    _, rivals, _ = load_experiment(write(content), "small")
    street = load_street("A", street_of, rivals.radio, rivals.carrier_frequency, rivals.users, paths)  # type: ignore[arg-type]
    users = draw_users(Survey.of(street, None), Condition(label="", fix=None), seed=4)
    assert users.accuracy == np.inf
    assert np.median(np.linalg.norm(users.coarse - street.users.positions, axis=1)) < 5


def test_the_command_writes_a_table_and_a_figure(write: Write, content: dict, paths: Path, tmp_path: Path) -> None:
    content |= {"methods": ["fix", "cnn"], "notes": ["A note."]}
    words = ["experiment", str(write(content)), "--paths", str(paths), "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, [*words, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    listed = json.loads(done.stdout)
    assert {(one["method"], one["street"], one["condition"]) for one in listed} == {
        (method, street, label) for method in ("fix", "cnn") for street in "AB" for label in ("few", "all")
    }
    table = (tmp_path / "out" / "trial.md").read_text()
    assert table.startswith("# A trial\n")
    assert "| A | few | all |" in table
    assert "A note." in table
    assert (tmp_path / "out" / "trial.png").read_bytes().startswith(b"\x89PNG")


def test_missing_path_tables_are_named_before_anything_is_trained(
    write: Write, content: dict, paths: Path, tmp_path: Path
) -> None:
    content["streets"]["C"] = {"cell": "etoile:901"}
    file = write(content | {"methods": ["cnn"], "tested": ["A", "C"]})
    with pytest.raises(PathTablesMissing, match="scenes trace etoile:901"):
        run(file, paths, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_trainings_of_other_path_tables_are_not_taken_for_those_of_these(
    write: Write, content: dict, paths: Path, tmp_path: Path
) -> None:
    content |= {"methods": ["knn"], "tested": ["A"], "conditions": [{"label": "all", "references": 150}]}
    content["streets"] = {"A": content["streets"]["A"]}
    file, runs, retraced = write(content), tmp_path / "runs", tmp_path / "retraced"
    run(file, paths, runs)
    run(file, paths, runs)
    retraced.mkdir()
    table = table_path(paths, "etoile", 900)
    take_users(PathTable.load(table), 10, 250).save(retraced / table.name)
    with pytest.raises(OtherTables, match=r"trainings of another etoile-0900\.paths\.safetensors; state"):
        run(file, retraced, runs)
    run(file, retraced, tmp_path / "others")
