"""`fingerpost-train experiment`: variants of one recipe, each trained and measured alike, in one table."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field

from models.mateformer.conditions import ALL, Condition
from models.mateformer.evaluation import MATEFORMER
from models.mateformer.learner import Fit, load_model
from models.mateformer.locators import torch_locate
from models.mateformer.report import evaluate, write_report
from models.pipeline.learner import LOG_FILE, load_checkpoint
from models.pipeline.recipe import Recipe

RESULT_FILE = "result.json"


class UnknownCondition(ValueError):
    """An experiment asks for a condition that `models.mateformer.conditions` does not have."""


class Experiment(BaseModel):
    """``base`` is a recipe beside the experiments' folder; overrides are dotted: ``optimiser.steps: 4000``.

    The first variant is the one that the others are compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    overrides: dict[str, Any] = {}  # of every variant
    variants: dict[str, dict[str, Any] | None] = Field(min_length=1)
    conditions: list[str] = Field(min_length=1)
    users: int = Field(gt=0)  # to locate, a cell


def load_experiment(path: Path) -> tuple[Experiment, dict[str, Recipe]]:
    """The experiment and the recipe of each variant.

    Raises pydantic's `ValidationError`, which names the field at fault, `TypeError` for an unknown setting of the
    model, and `UnknownCondition`.
    """
    experiment = Experiment.model_validate(yaml.safe_load(path.read_text()))
    conditions_of(experiment)
    base = yaml.safe_load((path.parent.parent / experiment.base).read_text())
    common = overridden(base, experiment.overrides)
    recipes = {}
    for name, changes in experiment.variants.items():
        recipes[name] = Recipe.model_validate(overridden(common, changes or {}))
        recipes[name].config()
    return experiment, recipes


def overridden(recipe: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's content in which ``section.key`` has another value."""
    recipe = copy.deepcopy(recipe)
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        content = recipe
        for section in sections:
            content = content.setdefault(section, {})
        content[key] = value
    return recipe


def conditions_of(experiment: Experiment) -> list[Condition]:
    """Raises `UnknownCondition`."""
    named = {condition.name: condition for condition in reversed(ALL)}  # of two with one name, the headline's
    if unknown := set(experiment.conditions) - set(named):
        raise UnknownCondition(f"no such condition: {', '.join(sorted(unknown))}; there are {', '.join(named)}")
    return [named[name] for name in experiment.conditions]


def run_experiment(
    experiment: Experiment,
    recipes: Mapping[str, Recipe],
    paths: Path,
    runs: Path,
    table: Path,
    device: torch.device,
    splits: tuple[str, ...],
    command: str,
) -> None:
    """Trains and measures every variant in a folder of its own under ``runs``, and rewrites the table after each.

    A variant that was stopped goes on where it stopped; one that is complete is not touched. Raises `RecipeChanged`
    where a variant's folder belongs to another recipe, and `FileNotFoundError` where path tables are missing.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes.items():
        results[name] = _result(experiment, recipe, paths, runs / name, device, splits)
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(_markdown(experiment, recipes, results, splits, command))


def _result(
    experiment: Experiment, recipe: Recipe, paths: Path, folder: Path, device: torch.device, splits: tuple[str, ...]
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
    if not _is_trained(recipe, folder):
        Fit(recipe, paths, folder, device).run()
    model, conditions = load_model(folder, recipe), conditions_of(experiment)
    errors = evaluate(torch_locate(model, device), recipe, paths, splits, conditions, experiment.users)
    summary = write_report(errors, conditions, recipe, folder)["splits"]
    result = {
        "asked": asked,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": recipe.optimiser.steps,
        "seconds": round(_seconds_trained(folder)),
        "mean_m": {
            split: {name: by[MATEFORMER]["mean_m"] for name, by in content["all"].items()}
            for split, content in summary.items()
        },
    }
    file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _is_trained(recipe: Recipe, folder: Path) -> bool:
    try:
        step: int = load_checkpoint(folder, recipe.digest, torch.device("cpu"))["step"]
    except FileNotFoundError:
        return False
    return step >= recipe.optimiser.steps


def _seconds_trained(folder: Path) -> float:
    """By the log, which goes on over stops; steps that a kill lost and that were made again count twice."""
    seconds, step = 0.0, 0
    for line in (folder / LOG_FILE).read_text().splitlines():
        entry = json.loads(line)
        made = entry["step"] - step
        seconds += max(made, 0) / max(entry["steps_per_s"], 0.01)  # the rate is rounded to 0.01
        step = entry["step"]
    return seconds


def _markdown(
    experiment: Experiment,
    recipes: Mapping[str, Recipe],
    results: Mapping[str, dict[str, Any]],
    splits: tuple[str, ...],
    command: str,
) -> str:
    base = next(iter(recipes))
    some = recipes[base]
    held_out = {"validation": some.cells.validation, "test": some.cells.test}
    lines = [
        f"    {command}",
        "",
        f"Mean error in metres, in brackets against `{base}`; {experiment.users} users a cell. The first is"
        f" `models/recipes/{experiment.base}`{_changes(experiment.overrides, ' with ')}. Choices are made on the"
        " validation cells; the test cells are only shown.",
    ]
    labels = [condition.label for condition in conditions_of(experiment)]
    for split in splits:
        head = [f"{split}: {', '.join(held_out[split])}", *labels, "parameters", "steps", "seconds trained"]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name, result in results.items():
            means, reference = result["mean_m"][split], results[base]["mean_m"][split]
            figures = [_against(means.get(one), reference.get(one)) for one in experiment.conditions]
            changes = _changes(experiment.variants[name] or {}, ": ")
            cost = [f"{result['parameters']:,}", f"{result['steps']:,}", f"{result['seconds']:,}"]
            lines.append(f"| {' | '.join([name + changes, *figures, *cost])} |")
    if waiting := [name for name in recipes if name not in results]:
        lines += ["", f"Not done yet: {', '.join(waiting)}."]
    return "\n".join(lines) + "\n"


def _changes(changes: Mapping[str, Any], before: str) -> str:
    return before + ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in changes.items()) if changes else ""


def _against(mean: float | None, reference: float | None) -> str:
    if mean is None or reference is None:  # the cells of this variant's recipe are too small for the condition
        return "-"
    return f"{mean:.3f}" if mean == reference else f"{mean:.3f} ({100 * (mean / reference - 1):+.0f} %)"
