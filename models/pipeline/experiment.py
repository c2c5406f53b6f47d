"""What the experiments of all families share: variants of one recipe, each trained and measured in the same way."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field

from models.errors import TrainerError, naming, read_yaml
from models.frozen import FrozenModel

RESULT_FILE = "result.json"

B = TypeVar("B")


class BaseExperiment(FrozenModel):
    """``base`` is a recipe's path relative to the experiment's file. Override keys are dotted: ``optimiser.steps``.

    A family adds ``family: Literal["its name"]``.
    """

    family: str
    base: str
    overrides: dict[str, Any] = Field(default_factory=dict)  # of every variant
    variants: dict[str, dict[str, Any] | None] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """The experiment and the content of its base recipe with the common overrides.

        Raises pydantic's `ValidationError`, which names the wrong field, and `UnreadableYaml`.
        """
        with naming(path):
            experiment = cls.model_validate(read_yaml(path))
        base = read_yaml(path.parent / experiment.base)
        return experiment, apply_overrides(base, experiment.overrides)


class UnknownBudget(TrainerError):
    """An experiment has no budget of this name."""


def choose_budget(budgets: Mapping[str, B], name: str) -> B:
    """Raises `UnknownBudget`."""
    if name not in budgets:
        raise UnknownBudget(f"no budget {name!r}; known are {', '.join(budgets)}")
    return budgets[name]


def save_result(result: Mapping[str, Any], folder: Path) -> None:
    """Writes a run's `RESULT_FILE` at once: a file that exists is whole."""
    partial = folder / (RESULT_FILE + ".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.rename(folder / RESULT_FILE)


def apply_overrides(recipe: dict[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of a recipe's content in which each ``section.key`` has its new value."""
    recipe = copy.deepcopy(recipe)
    for dotted, value in (overrides or {}).items():
        *sections, key = dotted.split(".")
        content = recipe
        for section in sections:
            content = content.setdefault(section, {})
        content[key] = value
    return recipe
