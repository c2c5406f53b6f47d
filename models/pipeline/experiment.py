"""What the experiments of all families share: variants of one recipe, each trained and measured in the same way."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field

from models.frozen import FrozenModel

RESULT_FILE = "result.json"


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

        Raises pydantic's `ValidationError`, which names the wrong field.
        """
        experiment = cls.model_validate(yaml.safe_load(path.read_text()))
        base = yaml.safe_load((path.parent / experiment.base).read_text())
        return experiment, apply_overrides(base, experiment.overrides)


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
