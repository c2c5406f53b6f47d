"""`fingerpost-train experiment` for SCADF-MoE: fusions and ablations over layouts, path features and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from pydantic import Field

from models.frozen import FrozenModel
from models.pipeline.experiment import RESULT_FILE, BaseExperiment, apply_overrides, choose_budget, save_result
from models.pipeline.learner import is_trained
from models.scadf_moe.data import Corpus, build_corpus
from models.scadf_moe.evaluation import (
    TrajectoryErrors,
    evaluate_geometry,
    evaluate_oracle_centroid,
    evaluate_trajectories,
    summarise_trajectories,
)
from models.scadf_moe.held_out import draw_tested_unseen
from models.scadf_moe.learner import ScadfMoELearner, load_model
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe
from models.scadf_moe.sampling import NoTrajectories

ERRORS_FILE = "errors.npz"
KINDS: tuple[PathFeatureKind, ...] = get_args(PathFeatureKind)


class Budget(FrozenModel):
    """Each band of ``left_out``, in hertz, is tested by models that are trained without it."""

    seeds: list[int] = Field(min_length=1)
    layouts: list[str] = Field(min_length=1)
    left_out: list[float] = Field(default_factory=list)
    overrides: dict[str, Any] = Field(default_factory=dict)


class ScadfMoEExperiment(BaseExperiment):
    """Every variant is trained on each layout of a budget with each of its seeds, for each kind of ``path_features``.

    ``figure`` is the figure's title.
    """

    family: Literal["scadf-moe"]
    figure: str
    path_features: tuple[PathFeatureKind, ...] = KINDS
    budgets: dict[str, Budget]


class Run(NamedTuple):
    variant: str
    layout: str
    seed: int
    left_out: float | None = None  # hertz

    def folder(self, runs: Path) -> Path:
        without = "" if self.left_out is None else f"without-{self.left_out / 1e9:g}GHz"
        return runs / self.layout.replace(":", "-") / without / self.variant / str(self.seed)


def load_experiment(path: Path, budget: str) -> tuple[ScadfMoEExperiment, dict[Run, ScadfMoERecipe]]:
    """The experiment and the recipe of every run, with the base recipe's path features.

    Raises pydantic's `ValidationError`, `TypeError` for an unknown setting of the model, and `UnknownBudget`.
    """
    experiment, base = ScadfMoEExperiment.load(path)
    chosen = choose_budget(experiment.budgets, budget)
    common = apply_overrides(base, chosen.overrides)
    recipes = {}
    # Layouts and bands are outermost, so that all models share the synthesised CSI of a layout.
    for layout, left_out, variant, seed in product(
        chosen.layouts, chosen.left_out or [None], experiment.variants, chosen.seeds
    ):
        changes = {**(experiment.variants[variant] or {}), "layout": layout, "seed": seed}
        if left_out is not None:
            changes["train_bands"] = [band for band in common["train_bands"] if band != left_out]
            changes["test_bands"] = [left_out]
        recipe = ScadfMoERecipe.model_validate(apply_overrides(common, changes))
        recipe.config()
        recipes[Run(variant, layout, seed, left_out)] = recipe
    return experiment, recipes


def run_experiment(
    recipes: Mapping[Run, ScadfMoERecipe], kind: PathFeatureKind, paths: Path, runs: Path, device: torch.device
) -> Iterator[Run]:
    """Trains and tests every run with these path features, in its own folder under ``runs``, and yields the run.

    A stopped run resumes; a complete run is not touched. Raises `RecipeChanged` if a folder belongs to another recipe,
    `FileNotFoundError` for a missing path table, and `NoTrajectories`.
    """
    for run, base in recipes.items():
        recipe, folder = with_path_features(base, kind), run.folder(runs)
        if read_result(recipe, folder) is None:
            corpus = build_corpus(recipe, paths)
            if not is_trained(folder, recipe):
                ScadfMoELearner(recipe, corpus, folder, device).run()
            _test_run(recipe, corpus, folder, device)
        yield run


def with_path_features(recipe: ScadfMoERecipe, kind: PathFeatureKind) -> ScadfMoERecipe:
    return recipe.model_copy(update={"path_features": kind})


def read_result(recipe: ScadfMoERecipe, folder: Path) -> dict[str, Any] | None:
    """The result of a run of this recipe, or None if the run is not complete."""
    file = folder / RESULT_FILE
    if not file.exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    return result if result["recipe"] == recipe.digest else None


def _test_run(recipe: ScadfMoERecipe, corpus: Corpus, folder: Path, device: torch.device) -> None:
    model = load_model(folder, recipe)
    bands = evaluate_trajectories(model, recipe, corpus, device)
    result: dict[str, Any] = {
        "recipe": recipe.digest,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": recipe.optimiser.steps,
        **_summarise(bands, recipe, corpus),
    }
    with suppress(NoTrajectories):  # where users are sparse
        unseen = draw_tested_unseen(recipe, corpus)
        result["all_unseen"] = _summarise(evaluate_trajectories(model, recipe, unseen, device), recipe, unseen)
    metres = {f"{band:.0f}": np.sqrt(errors.squared) for band, errors in bands.items()}
    in_sight = {f"{band:.0f}_los": errors.line_of_sight for band, errors in bands.items()}
    np.savez_compressed(folder / ERRORS_FILE, **metres, **in_sight)
    save_result(result, folder)


def _summarise(
    bands: dict[float, TrajectoryErrors], recipe: ScadfMoERecipe, corpus: Corpus
) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of a model by band, and what is known of the same trajectories without a model."""
    return {
        "mse_m2": summarise_trajectories(bands),
        "geometry_mse_m2": summarise_trajectories(evaluate_geometry(recipe, corpus)),
        "oracle_centroid_mse_m2": summarise_trajectories(evaluate_oracle_centroid(recipe, corpus)),
    }
