"""What an experiment plans."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.alloc.experiment import UnknownMethod, load_experiment
from models.alloc.trials import Trial, list_trainings, plan_trials
from models.families import find_yaml
from models.pipeline.experiment import UnknownBudget

Write = Callable[[dict], Path]


def plan(file: Path, budget: str = "small") -> list[Trial]:
    return plan_trials(*load_experiment(file, budget))


def test_each_method_is_tried_in_each_street_and_condition(write: Write, content: dict) -> None:
    trials = plan(write(content))
    assert [(one.method, one.street, one.condition.label) for one in trials] == [
        (method, street, label)
        for method in ("fix", "knn", "cnn", "alloc")
        for street in ("A", "B")
        for label in ("few", "all")
    ]
    assert len({one.errors_file(Path()) for one in trials}) == len(trials)


def test_a_street_is_learned_with_the_fingerprints_of_the_condition(write: Write, content: dict) -> None:
    for trial in plan(write(content)):
        for training in trial.trainings:
            assert list(training.recipe.streets) == [trial.street]
            assert training.recipe.references == trial.condition.references


def test_equal_trainings_are_made_once_for_all_conditions_and_experiments(write: Write, content: dict) -> None:
    content["conditions"] = [{"label": "sure"}, {"label": "lost", "fix": 20.0}, {"label": "noisy", "noise": 0.3}]
    trials = plan(write(content))
    assert [len(wave) for wave in list_trainings(trials)] == [4, 0]  # two methods that learn, two streets
    again = plan(write(content | {"title": "Another", "methods": ["alloc"]}))
    assert {one.trainings[0].folder for one in again} <= {
        training.folder for trial in trials for training in trial.trainings
    }


def test_methods_that_learn_nothing_are_tried_once_for_all_lessons(write: Write, content: dict) -> None:
    content["lessons"] = {"A": {"learned": ["A"]}, "B": {"learned": ["B"]}}
    lessons = {(one.method, one.lesson) for one in plan(write(content))}
    assert lessons == {("fix", "A"), ("knn", "A"), ("cnn", "A"), ("cnn", "B"), ("alloc", "A"), ("alloc", "B")}


def test_a_second_lesson_continues_from_the_first(write: Write, content: dict) -> None:
    content |= {"methods": ["cnn", "multi-task"], "conditions": [{"label": "all"}], "tested": ["A"]}
    content["lessons"] = {"A, then B": {"learned": ["A"], "then": ["B"], "steps": 3}}
    trials = plan(write(content))
    for trial in trials:
        (training,) = trial.trainings
        assert training.before is not None
        assert training.recipe.after == training.before.recipe.digest
        assert (list(training.before.recipe.streets), list(training.recipe.streets)) == (["A"], ["B"])
        assert (training.before.recipe.optimiser.steps, training.recipe.optimiser.steps) == (6, 3)
        assert training.recipe.fresh_head == (trial.method == "multi-task")
        # what is tested is what these few steps made of the model, not an average with what it was before
        assert (training.before.recipe.optimiser.average, training.recipe.optimiser.average) == (0.5, 0.0)
    assert [len(wave) for wave in list_trainings(trials)] == [2, 2]


def test_a_chain_needs_the_trainings_of_its_methods(write: Write, content: dict) -> None:
    content |= {"methods": ["alloc", "alloc-random", "alloc-iterative"]}
    by_method: dict[str, set[Path]] = {}
    for one in plan(write(content)):
        by_method.setdefault(one.method, set()).update(training.folder for training in one.trainings)
    assert by_method["alloc-iterative"] == by_method["alloc"] | by_method["alloc-random"]


def test_a_budget_sets_seeds_and_settings(write: Write, content: dict) -> None:
    file = write(content)
    assert {one.seed for one in plan(file, "paper")} == {1, 2}
    _, rivals, _ = load_experiment(file, "paper")
    assert rivals.methods["cnn"].batch == 8
    with pytest.raises(UnknownBudget, match="small, paper"):
        load_experiment(file, "huge")


def test_unknown_names_are_refused_with_those_that_exist(write: Write, content: dict) -> None:
    with pytest.raises(UnknownMethod, match="no method oracle; it has fix, knn"):
        load_experiment(write(content | {"methods": ["oracle"]}), "small")
    with pytest.raises(ValidationError, match="no street C; there are A, B"):
        load_experiment(write(content | {"tested": ["C"]}), "small")
    with pytest.raises(ValidationError, match="no lesson theirs; there are own"):
        load_experiment(write(content | {"only": {"cnn": ["theirs"]}}), "small")


@pytest.mark.parametrize("budget", ["small", "paper"])
@pytest.mark.parametrize("file", find_yaml("alloc", "experiments"), ids=lambda file: file.stem)
def test_every_shipped_experiment_can_be_planned(file: Path, budget: str) -> None:
    trials = plan(file, budget)
    assert trials
    for training in (one for wave in list_trainings(trials) for one in wave):
        assert training.recipe.optimiser.steps > 0


def test_a_chain_is_tried_anew_when_any_of_its_methods_changes(write: Write, content: dict, rivals: dict) -> None:
    content |= {"methods": ["alloc-iterative"]}
    before = {one.errors_file(Path()) for one in plan(write(content))}
    first = rivals["methods"]["alloc-random"]
    first["optimiser"] = first["optimiser"] | {"steps": 7}
    after = {one.errors_file(Path()) for one in plan(write(content))}
    assert not before & after


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"conditions": [{"label": "x", "fix": 0.5}, {"label": "x", "fix": 20.0}]}, "`conditions` has a name twice"),
        ({"tested": ["A", "A"]}, "`tested` has a name twice"),
        ({"tested": ["the tested street"]}, "no street the tested street"),
        ({"only": {"cnm": ["own"]}}, "`only` names cnm"),
        ({"lessons": {"own": {"learned": ["A"], "then": ["B"]}}}, "`then` and `steps` go together"),
        ({"lessons": {"own": {"learned": ["A"], "steps": 3}}}, "`then` and `steps` go together"),
        ({"conditions": [{"label": "none", "references": 0}]}, "references"),
    ],
)
def test_an_experiment_that_would_show_something_else_than_it_says_is_refused(
    write: Write, content: dict, changed: dict, complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        plan(write(content | changed))


@pytest.mark.parametrize(
    ("method", "changed", "complaint"),
    [
        ("cnn", {"optimiser": None}, "the task snapshot needs an optimiser"),
        ("alloc-iterative", {"chain": []}, "a chain needs two methods or more"),
        ("alloc-iterative", {"chain": ["alloc", "aloc"]}, "no method aloc"),
        ("fix", {"chain": ["alloc", "cnn"]}, "no other task has one"),
    ],
)
def test_a_method_that_would_learn_nothing_unnoticed_is_refused(
    write: Write, content: dict, rivals: dict, method: str, changed: dict, complaint: str
) -> None:
    rivals["methods"][method] |= changed
    with pytest.raises(ValidationError, match=complaint):
        plan(write(content))
