"""The file of an experiment: methods, what they learn from, and where users are located."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from models.alloc.recipe import Method
from models.alloc.streets import StreetOf
from models.errors import TrainerError, naming, read_yaml
from models.frozen import FrozenModel
from models.pipeline.experiment import apply_overrides, choose_budget
from models.radio.front_end import Radio

TESTED = "the tested street"  # of `Lesson.learned`


class UnknownMethod(TrainerError):
    """An experiment names a method that its file of methods lacks."""


class Lesson(FrozenModel):
    """Streets to learn, then streets to go on with for ``steps``. `TESTED` stands for the street that is tested."""

    learned: list[str] = Field(min_length=1)
    then: list[str] = Field(default_factory=list)
    steps: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _goes_on_for_steps(self) -> Lesson:
        if bool(self.then) != bool(self.steps):
            raise ValueError("`then` and `steps` go together")
        return self


class Condition(FrozenModel):
    """``references`` are learned from and compared with, all by default. ``neighbours`` of them form a neighbourhood.

    ``fix`` is the paper's l in metres: coarse positions are uniform within ± l on each axis. None: the coarse position
    is what the fingerprints vote for by their signals. ``noise`` is the paper's sigma: each entry of a user's CSI is
    multiplied by a number from N(1, sigma²).
    """

    label: str
    references: int | None = Field(None, ge=1)
    neighbours: int = Field(64, ge=1)
    fix: float | None = Field(1.0, gt=0)
    noise: float = Field(0.0, ge=0)


class Budget(FrozenModel):
    """``overrides`` have dotted keys of the file of methods."""

    seeds: list[int] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict)


class Rivals(FrozenModel):
    """The file of methods: one radio and number of located users for all."""

    family: Literal["alloc"]
    radio: Radio
    carrier_frequency: float
    users: int = Field(ge=1)
    methods: dict[str, Method]
    budgets: dict[str, Budget]

    @model_validator(mode="after")
    def _chains_what_exists(self) -> Rivals:
        if unknown := {name for one in self.methods.values() for name in one.chain} - set(self.methods):
            raise ValueError(f"no method {', '.join(sorted(unknown))}; there are {', '.join(self.methods)}")
        return self


class AllocExperiment(FrozenModel):
    """Every method learns every lesson, and locates the users of every tested street in every condition.

    ``methods`` names those of the file ``base``. ``only`` limits a method to some lessons. ``title`` names the figure
    of the paper.
    """

    family: Literal["alloc"]
    title: str
    base: str
    streets: dict[str, StreetOf]
    methods: list[str] = Field(min_length=1)
    lessons: dict[str, Lesson] = Field(min_length=1)
    only: dict[str, list[str]] = Field(default_factory=dict)
    tested: list[str] = Field(min_length=1)
    conditions: list[Condition] = Field(min_length=1)
    notes: list[str] = Field(default_factory=list)  # paragraphs before the tables

    @model_validator(mode="after")
    def _names_what_exists(self) -> AllocExperiment:
        named = {*self.tested, *(name for one in self.lessons.values() for name in (*one.learned, *one.then))}
        if unknown := (named - {*self.streets, TESTED}) | (set(self.tested) - set(self.streets)):
            raise ValueError(f"no street {', '.join(sorted(unknown))}; there are {', '.join(self.streets)}")
        if unknown := set(self.only) - set(self.methods):
            raise ValueError(f"`only` names {', '.join(sorted(unknown))}, which the experiment does not try")
        labels = [one.label for one in self.conditions]
        for what, names in (("conditions", labels), ("tested", self.tested), ("methods", self.methods)):
            if len(set(names)) < len(names):
                raise ValueError(f"`{what}` has a name twice: {', '.join(names)}")
        lessons = {name for names in self.only.values() for name in names}
        if unknown := lessons - set(self.lessons):
            raise ValueError(f"no lesson {', '.join(sorted(unknown))}; there are {', '.join(self.lessons)}")
        return self


def load_experiment(path: Path, budget: str) -> tuple[AllocExperiment, Rivals, list[int]]:
    """The experiment, the methods with the budget's settings, and its seeds.

    Raises pydantic's `ValidationError`, which names the wrong field, `UnreadableYaml`, `UnknownBudget` and
    `UnknownMethod`.
    """
    with naming(path):
        experiment = AllocExperiment.model_validate(read_yaml(path))
    base = path.parent / experiment.base
    content = read_yaml(base)
    with naming(base):
        chosen = choose_budget(Rivals.model_validate(content).budgets, budget)
        rivals = Rivals.model_validate(apply_overrides(content, chosen.overrides))
    if unknown := [name for name in experiment.methods if name not in rivals.methods]:
        raise UnknownMethod(f"{base} has no method {', '.join(unknown)}; it has {', '.join(rivals.methods)}")
    return experiment, rivals, chosen.seeds


def lessons_of(experiment: AllocExperiment, rivals: Rivals, method: str) -> dict[str, Lesson]:
    """The lessons of a method by name; the first alone of a method that learns nothing."""
    if rivals.methods[method].optimiser is None and not rivals.methods[method].chain:
        name = next(iter(experiment.lessons))
        return {name: experiment.lessons[name]}
    names = experiment.only.get(method, list(experiment.lessons))
    return {name: experiment.lessons[name] for name in names}
