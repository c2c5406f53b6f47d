"""`fingerpost-train experiment` for Mateformer: each variant of a recipe is trained and measured, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from models.mateformer.conditions import find_conditions
from models.mateformer.data import build_views
from models.mateformer.evaluation import MATEFORMER
from models.mateformer.learner import MateformerLearner, load_model
from models.mateformer.locators import TorchLocator
from models.mateformer.measurement import group_cells, measure
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import write_report
from models.pipeline.experiment import RESULT_FILE, BaseExperiment, apply_overrides
from models.pipeline.learner import LOG_FILE, is_trained
from models.pipeline.tables import describe_overrides, markdown_table


class MateformerExperiment(BaseExperiment):
    """The first variant is the baseline of the others."""

    family: Literal["mateformer"]
    conditions: list[str] = Field(min_length=1)
    users: int = Field(gt=0)  # located per cell


def load_experiment(path: Path) -> tuple[MateformerExperiment, dict[str, MateformerRecipe]]:
    """The experiment and the recipe of each variant.

    Raises pydantic's `ValidationError`, which names the wrong field, `TypeError` for an unknown setting of the model,
    and `UnknownCondition`.
    """
    experiment, base = MateformerExperiment.load(path)
    find_conditions(experiment.conditions)
    recipes = {}
    for name, overrides in experiment.variants.items():
        recipes[name] = MateformerRecipe.model_validate(apply_overrides(base, overrides))
        recipes[name].config()
    return experiment, recipes


def run_experiment(
    experiment: MateformerExperiment,
    recipes: Mapping[str, MateformerRecipe],
    paths: Path,
    runs: Path,
    table: Path,
    device: torch.device,
    splits: tuple[str, ...],
    command: str,
) -> dict[str, dict[str, Any]]:
    """Trains and measures every variant in its own folder under ``runs``, and rewrites the table after each.

    Returns the result of each, as its folder keeps it.

    A stopped variant resumes; a complete variant is not touched. Raises `RecipeChanged` if a variant's folder belongs
    to another recipe, and `FileNotFoundError` for a missing path table.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes.items():
        results[name] = _run_variant(experiment, recipe, paths, runs / name, device, splits)
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(_write_table(experiment, recipes, results, splits, command))
    return results


def _run_variant(
    experiment: MateformerExperiment,
    recipe: MateformerRecipe,
    paths: Path,
    folder: Path,
    device: torch.device,
    splits: tuple[str, ...],
) -> dict[str, Any]:
    asked = {
        "recipe": recipe.digest,
        "conditions": experiment.conditions,
        "users": experiment.users,
        "splits": list(splits),
    }
    file = folder / RESULT_FILE
    if file.exists() and (done := json.loads(file.read_text()))["asked"] == asked:
        return done
    if not is_trained(folder, recipe):
        MateformerLearner(recipe, build_views(recipe, paths), folder, device).run()
    model, conditions = load_model(folder, recipe), find_conditions(experiment.conditions)
    errors = measure(TorchLocator(model, device), recipe, paths, splits, conditions, experiment.users)
    summary = write_report(errors, conditions, recipe, folder)["splits"]
    result = {
        "asked": asked,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": recipe.optimiser.steps,
        "seconds": round(_seconds_trained(folder)),
        "mean_m": {
            group: {name: methods[MATEFORMER]["mean_m"] for name, methods in content["all"].items()}
            for group, content in summary.items()
        },
    }
    file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _seconds_trained(folder: Path) -> float:
    """The training time from the log, which continues over stops. Steps that a kill has lost count once."""
    seconds, step = 0.0, 0
    for line in (folder / LOG_FILE).read_text().splitlines():
        entry = json.loads(line)
        seconds += (entry["step"] - step) / max(entry["steps_per_s"], 0.01)  # the rate is rounded to 0.01
        step = entry["step"]
    return seconds


def _write_table(
    experiment: MateformerExperiment,
    recipes: Mapping[str, MateformerRecipe],
    results: Mapping[str, dict[str, Any]],
    splits: tuple[str, ...],
    command: str,
) -> str:
    base, recipe = next(iter(recipes.items()))
    overrides = describe_overrides(experiment.overrides)
    parts = [
        f"    {command}",
        f"Mean error in metres, in brackets relative to `{base}`; {experiment.users} users per cell. `{base}` is the"
        f" recipe `{Path(experiment.base).name}`{' with ' + overrides if overrides else ''}. Settings are chosen on the"
        " validation cells; the test cells are only shown.",
    ]
    labels = [condition.label for condition in find_conditions(experiment.conditions)]
    for group, cells in group_cells(recipe, splits).items():
        rows = []
        for name, result in results.items():
            means, reference = result["mean_m"][group], results[base]["mean_m"][group]
            changes = describe_overrides(experiment.variants[name])
            figures = [_compare(means.get(one), reference.get(one)) for one in experiment.conditions]
            cost = [f"{result['parameters']:,}", f"{result['steps']:,}", f"{result['seconds']:,}"]
            rows.append([name + (f": {changes}" if changes else ""), *figures, *cost])
        head = [f"{group}: {', '.join(cells)}", *labels, "parameters", "steps", "seconds trained"]
        parts.append(markdown_table(head, rows))
    if waiting := [name for name in recipes if name not in results]:
        parts.append(f"Not done yet: {', '.join(waiting)}.")
    return "\n\n".join(parts) + "\n"


def _compare(mean: float | None, reference: float | None) -> str:
    if mean is None or reference is None:  # the cells of this variant are too small for the condition
        return "-"
    return f"{mean:.3f}" if mean == reference else f"{mean:.3f} ({100 * (mean / reference - 1):+.0f} %)"
