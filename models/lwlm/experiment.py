"""`fingerpost-train experiment` for LWLM: decoders over label budgets and seeds, beside rivals.

Runs are shared: an experiment finds what another one trained with the same recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field

from models.frozen import FrozenModel
from models.lwlm.data import load_links
from models.lwlm.evaluation import answer_users, measure_links, measure_users, summarise
from models.lwlm.learner import load_tested, pretrain, split_users, train_decoders
from models.lwlm.recipe import LwlmRecipe
from models.lwlm.rivals import ANGLES, Angles, measure_model_based
from models.pipeline.experiment import RESULT_FILE, BaseExperiment, apply_overrides, choose_budget, save_result
from models.pipeline.learner import CHECKPOINT_FILE

Task = Literal["toa", "aoa", "single", "multi"]


class Budget(FrozenModel):
    seeds: list[int] = Field(min_length=1)
    labels: list[int] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict)


class LwlmExperiment(BaseExperiment):
    """Every variant is trained with each number of labels and each seed of a budget. ``tasks`` get a table each.

    ``pretrained`` and ``rival`` name the variants whose ratio the tables state.
    """

    family: Literal["lwlm"]
    title: str
    tasks: list[Task] = Field(min_length=1)
    compared: tuple[str, str]
    budgets: dict[str, Budget]


class Run(NamedTuple):
    variant: str
    labels: int
    seed: int


def load_experiment(path: Path, budget: str) -> tuple[LwlmExperiment, dict[Run, LwlmRecipe]]:
    """The experiment and the recipe of every run.

    Raises pydantic's `ValidationError`, `TypeError` for an unknown setting of the model, and `UnknownBudget`.
    """
    experiment, base = LwlmExperiment.load(path)
    chosen = choose_budget(experiment.budgets, budget)
    common = apply_overrides(base, chosen.overrides)
    recipes = {}
    for variant, labels, seed in product(experiment.variants, chosen.labels, chosen.seeds):
        changes = {"decoding.labels": labels, "decoding.seed": seed, **(experiment.variants[variant] or {})}
        recipe = LwlmRecipe.model_validate(apply_overrides(common, changes))
        recipe.config()
        recipes[Run(variant, labels, seed)] = recipe
    return experiment, recipes


def run_experiment(recipes: Mapping[Run, LwlmRecipe], paths: Path, runs: Path, device: torch.device) -> Iterator[Run]:
    """Trains and tests every run and yields it. A stopped run resumes; a complete run is not touched.

    Raises `FileNotFoundError` for a missing path table.
    """
    measure_rivals(next(iter(recipes.values())), paths, runs)
    for run, recipe in recipes.items():
        if read_result(recipe, runs) is None:
            _train_and_test(recipe, paths, runs, device)
        yield run


def _train_and_test(recipe: LwlmRecipe, paths: Path, runs: Path, device: torch.device) -> None:
    encoder = None
    if recipe.decoding.pretrained:
        digest = recipe.for_pretraining().digest
        links = load_links(recipe.streets.train, recipe.streets.stations, paths)
        encoder = pretrain(recipe, links, runs / f"pretraining-{digest[:16]}", device)
    labelled, tested = split_users(recipe, paths)
    folder = run_folder(recipe, runs)
    model = train_decoders(recipe, labelled, encoder, folder, device)
    answered = answer_users(model, tested, device)
    result = {
        "recipe": recipe.digest,
        "parameters": sum(one.numel() for one in model.parameters()),
        "errors": summarise(measure_links(answered), measure_users(answered)),
    }
    save_result(result, folder)
    (folder / CHECKPOINT_FILE).unlink()  # hundreds of runs would fill the disk


def run_folder(recipe: LwlmRecipe, runs: Path) -> Path:
    """Named by the recipe's digest, so that experiments share their runs."""
    return runs / recipe.digest[:16]


def read_result(recipe: LwlmRecipe, runs: Path) -> dict[str, Any] | None:
    """The result of a recipe's run, or None if the run is not complete."""
    file = run_folder(recipe, runs) / RESULT_FILE
    if not file.exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def read_model_based(recipe: LwlmRecipe, runs: Path, angles: Angles) -> dict[str, dict[str, float]] | None:
    """The errors of the model-based estimators on the tested snapshots, or None if they are not measured yet."""
    file = _model_based_file(recipe, runs, angles)
    if not file.exists():
        return None
    errors: dict[str, dict[str, float]] = json.loads(file.read_text())
    return errors


def measure_rivals(recipe: LwlmRecipe, paths: Path, runs: Path) -> None:
    """Measures the model-based estimators, which learn nothing, on the tested snapshots."""
    for angles in ANGLES:
        file = _model_based_file(recipe, runs, angles)
        if not file.exists():
            tested = load_tested(recipe, paths)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(measure_model_based(tested, angles), indent=2) + "\n")


def _model_based_file(recipe: LwlmRecipe, runs: Path, angles: Angles) -> Path:
    """Named by what decides the tested snapshots."""
    tested = [recipe.streets.test, recipe.streets.stations, recipe.tested.model_dump(), recipe.decoding.home]
    digest = hashlib.sha256(json.dumps(tested).encode()).hexdigest()
    return runs / f"model-based-{angles}-{digest[:16]}.json"
