"""The trials of an experiment, and the trainings that they need."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from models.alloc.experiment import TESTED, AllocExperiment, Condition, Lesson, Rivals, lessons_of
from models.alloc.recipe import RivalRecipe
from models.alloc.streets import StreetOf


@dataclass(frozen=True)
class Training:
    """A recipe, and the training whose weights it continues from."""

    recipe: RivalRecipe
    before: Training | None = None

    @property
    def folder(self) -> Path:
        """Relative to the folder of all trainings, which the experiments share."""
        return Path(f"{self.recipe.name}-{self.recipe.digest[:12]}")


@dataclass(frozen=True)
class Trial:
    """One method on one street in one condition.

    ``trainings``: none of a method that learns nothing; of a chain of methods, one each.
    """

    method: str
    lesson: str
    street: str
    condition: Condition
    seed: int
    trainings: tuple[Training, ...]
    key: str  # names the file of its errors

    def errors_file(self, runs: Path) -> Path:
        folder = self.trainings[-1].folder if self.trainings else Path(self.method)
        return runs / folder / f"{self.key}.npy"


def plan_trials(experiment: AllocExperiment, rivals: Rivals, seeds: list[int]) -> list[Trial]:
    """All trials, those of one method one after the other."""
    trials = []
    rows = [(name, *one) for name in experiment.methods for one in lessons_of(experiment, rivals, name).items()]
    for (name, lesson, said), seed in product(rows, seeds):
        for street, condition in product(experiment.tested, experiment.conditions):
            chain = rivals.methods[name].chain or (name,)
            trainings = tuple(
                plan_training(experiment, rivals, one, said, street, condition.references, seed)
                for one in chain
                if rivals.methods[one].optimiser is not None
            )
            earlier = [one.recipe.digest for one in trainings[:-1]]  # of a chain; the last one names the folder
            key = _name_errors(rivals, name, street, experiment.streets[street], condition, seed, earlier)
            trials.append(Trial(name, lesson, street, condition, seed, trainings, key))
    return trials


def plan_training(
    experiment: AllocExperiment,
    rivals: Rivals,
    name: str,
    lesson: Lesson,
    tested: str,
    references: int | None,
    seed: int,
) -> Training:
    """What a method learns before it locates users of the street ``tested``."""
    method = rivals.methods[name]
    assert method.optimiser is not None

    def streets(names: list[str]) -> dict[str, StreetOf]:
        chosen = [tested if one == TESTED else one for one in names]
        return {one: experiment.streets[one] for one in chosen}

    recipe = RivalRecipe(
        family="alloc",
        name=name,
        version="1",
        seed=seed,
        radio=rivals.radio,
        carrier_frequency=rivals.carrier_frequency,
        users=rivals.users,
        optimiser=method.optimiser,
        method=method,
        streets=streets(lesson.learned),
        references=references,
    )
    if not lesson.then or not lesson.steps:
        return Training(recipe)
    # A moving average over so few steps would still hold the weights of before.
    few = {"steps": lesson.steps, "warmup_steps": min(20, lesson.steps), "average": 0.0}
    shorter = method.optimiser.model_copy(update=few)
    changes = {
        "optimiser": shorter,
        "streets": streets(lesson.then),
        "after": recipe.digest,
        "fresh_head": method.tasks,
    }
    return Training(recipe.model_copy(update=changes), Training(recipe))


def list_trainings(trials: list[Trial]) -> list[list[Training]]:
    """The trainings of some trials, each once: those that others continue from, then the others."""
    wanted = {one.folder: one for trial in trials for one in trial.trainings}
    firsts = {(first := one.before or one).folder: first for one in wanted.values()}
    return [list(firsts.values()), [one for folder, one in wanted.items() if folder not in firsts]]


def _name_errors(
    rivals: Rivals, method: str, street: str, of: StreetOf, condition: Condition, seed: int, earlier: list[str]
) -> str:
    asked = [
        method,
        street,
        of.model_dump(),
        condition.model_dump(exclude={"label"}),
        rivals.users,
        rivals.radio.model_dump(),
        rivals.carrier_frequency,
        seed,
        *earlier,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
