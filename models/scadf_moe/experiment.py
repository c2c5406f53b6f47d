"""`fingerpost-train experiment scadf-...`: fusions and ablations, layout by layout, cue by cue, seed by seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field

from models.pipeline.experiment import overridden
from models.pipeline.learner import load_checkpoint
from models.scadf_moe.data import TrajectoryCorpus, build_trajectories
from models.scadf_moe.evaluation import evaluate_geometry, evaluate_trajectories, summarise_trajectories
from models.scadf_moe.learner import TrajectoryFit, load_trajectory_model
from models.scadf_moe.recipe import Cues, TrajectoryRecipe

RESULT_FILE, ERRORS_FILE = "result.json", "errors.npz"
ALL_CUES: tuple[Cues, ...] = get_args(Cues)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(_Frozen):
    seeds: list[int] = Field(min_length=1)
    layouts: list[str] = Field(min_length=1)
    overrides: dict[str, Any] = {}


class TrajectoryExperiment(_Frozen):
    """``base`` is a recipe beside the experiments' folder; overrides are dotted: ``optimiser.steps: 4000``.

    Every variant is trained on each of a budget's layouts with each of its seeds. ``figure`` is its title.
    """

    base: str
    figure: str
    overrides: dict[str, Any] = {}  # of every variant
    variants: dict[str, dict[str, Any] | None] = Field(min_length=1)
    budgets: dict[str, Budget]


class UnknownBudget(ValueError):
    """An experiment has no budget of this name."""


class Run(NamedTuple):
    variant: str
    layout: str
    seed: int

    def folder(self, runs: Path) -> Path:
        return runs / self.layout.replace(":", "-") / self.variant / str(self.seed)


def load_trajectory_experiment(path: Path, budget: str) -> tuple[TrajectoryExperiment, dict[Run, TrajectoryRecipe]]:
    """The experiment and the recipe of every run, with exact cues.

    Raises pydantic's `ValidationError`, `TypeError` for an unknown setting of the model, and `UnknownBudget`.
    """
    experiment = TrajectoryExperiment.model_validate(yaml.safe_load(path.read_text()))
    if budget not in experiment.budgets:
        raise UnknownBudget(f"no budget {budget!r}: there are {', '.join(experiment.budgets)}")
    chosen = experiment.budgets[budget]
    base = yaml.safe_load((path.parent.parent / experiment.base).read_text())
    common = overridden(overridden(base, experiment.overrides), chosen.overrides)
    recipes = {}
    # Layouts outermost: what is read and synthesised of one serves all its networks.
    for layout, variant, seed in product(chosen.layouts, experiment.variants, chosen.seeds):
        changes = {**(experiment.variants[variant] or {}), "layout": layout, "seed": seed}
        recipe = TrajectoryRecipe.model_validate(overridden(common, changes))
        recipe.config()
        recipes[Run(variant, layout, seed)] = recipe
    return experiment, recipes


def run_trajectory_experiment(
    recipes: Mapping[Run, TrajectoryRecipe], cues: Cues, paths: Path, runs: Path, device: torch.device
) -> Iterator[Run]:
    """Trains and tests what is not done yet, each in a folder of its own under ``runs``, and yields each run.

    A run that was stopped goes on where it stopped; one that is complete is not touched. Raises `RecipeChanged` where
    a folder belongs to another recipe, `FileNotFoundError` where path tables are missing, and `NoTrajectories`.
    """
    for run, exact in recipes.items():
        recipe, folder = exact.model_copy(update={"cues": cues}), run.folder(runs)
        if read_result(exact, cues, folder) is None:
            corpus = build_trajectories(recipe, paths)
            if not _is_trained(recipe, folder):
                TrajectoryFit(recipe, corpus, folder, device).run()
            _test(recipe, corpus, folder, device)
        yield run


def read_result(exact: TrajectoryRecipe, cues: Cues, folder: Path) -> dict[str, Any] | None:
    """What a run of this recipe with these cues reached, or None where it is not done."""
    file = folder / RESULT_FILE
    if not file.exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    return result if result["recipe"] == exact.model_copy(update={"cues": cues}).digest else None


def _test(recipe: TrajectoryRecipe, corpus: TrajectoryCorpus, folder: Path, device: torch.device) -> None:
    model = load_trajectory_model(folder, recipe)
    bands = evaluate_trajectories(model, recipe, corpus, device)
    result = {
        "recipe": recipe.digest,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": recipe.optimiser.steps,
        "mse_m2": summarise_trajectories(bands),
        "geometry_mse_m2": summarise_trajectories(evaluate_geometry(recipe, corpus)),
    }
    metres = {f"{band:.0f}": np.sqrt(errors.squared) for band, errors in bands.items()}
    in_sight = {f"{band:.0f}_los": errors.line_of_sight for band, errors in bands.items()}
    np.savez_compressed(folder / ERRORS_FILE, **metres, **in_sight)
    partial = folder / (RESULT_FILE + ".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.rename(folder / RESULT_FILE)


def _is_trained(recipe: TrajectoryRecipe, folder: Path) -> bool:
    try:
        step: int = load_checkpoint(folder, recipe.digest, torch.device("cpu"))["step"]
    except FileNotFoundError:
        return False
    return step >= recipe.optimiser.steps
