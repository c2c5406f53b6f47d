"""What the recipes of all families share. A recipe is one YAML file that decides all results of a training run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, Literal, Self

from models.errors import TrainerError, naming, read_yaml
from models.frozen import FrozenModel
from models.radio.front_end import Radio


class SectionMissing(TrainerError):
    """A recipe lacks a section that a command needs."""


class Optimiser(FrozenModel):
    """Settings of `models.pipeline.learner.Learner`.

    Loss ``relative`` is the logarithm of each sample's mean distance. ``average`` is the decay of the moving average
    of the weights, which a run delivers; 0 delivers the last weights.
    """

    name: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    schedule: Literal["cosine", "step"]
    warmup_steps: int
    steps: int
    loss: Literal["mse", "distance", "relative"]
    average: float


class BaseRecipe(FrozenModel):
    """A family adds ``family: Literal["its name"]``, its own sections, and narrows ``radio`` if it needs more."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"name", "version"})  # fields that do not change the weights

    family: str
    name: str
    version: str
    seed: int
    radio: Radio
    optimiser: Optimiser

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises pydantic's `ValidationError`, which names the wrong field, and `UnreadableYaml`."""
        with naming(path):
            return cls.model_validate(read_yaml(path))

    @property
    def digest(self) -> str:
        """sha256, hex, of all fields that decide the weights.

        Fields at their default stay out, so that the digest of an old recipe outlives new fields.
        """
        decisive = self.model_dump_json(exclude=set(self.without_effect), exclude_defaults=True)
        return hashlib.sha256(decisive.encode()).hexdigest()


def read_radio(path: Path) -> Radio:
    """The section ``radio`` of a recipe of any family. Raises `SectionMissing`, and what `BaseRecipe.load` raises."""
    recipe = read_yaml(path)
    content = recipe.get("radio") if isinstance(recipe, dict) else None
    if not isinstance(content, dict):
        raise SectionMissing(f"{path} has no section radio")
    with naming(path):
        return Radio.model_validate({name: content[name] for name in Radio.model_fields if name in content})
