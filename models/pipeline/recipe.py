"""A recipe: everything that decides what a training run produces, in one YAML file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from models.mateformer.network import MateformerConfig
from models.radio.impairments import Impairments
from reference_db.cell import AntennaArray


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Radio(_Frozen):
    """How path tables become CSI. ``yaws`` arrays are synthesised a cell: the site's own and others within ±45°."""

    array: AntennaArray
    subcarriers: int
    carrier_frequency: float
    bandwidth: float
    yaws: int = Field(ge=1)


class Cells(_Frozen):
    """Ranges ``city:first-last``. Test cells are only ever read by the report."""

    train: list[str]
    validation: list[str]
    test: list[str]
    references: int  # the first users of a validation or test cell; the rest are located


class Batch(_Frozen):
    """One optimiser step sees ``neighbourhoods`` of ``known`` + ``to_infer`` users around one noisy point each.

    ``known`` is drawn a step, ``coarse_sigma`` (metres) and ``spread`` a neighbourhood: the users are a random subset
    of ``spread`` times as many, which thins the cell's density. In a share ``stray`` of the neighbourhoods the users
    stand at its rim and beyond, as after a bad first guess.
    """

    neighbourhoods: int
    known: tuple[int, int]
    to_infer: int
    coarse_sigma: tuple[float, float]
    spread: tuple[float, float]
    stray: float


class Radios(_Frozen):
    """A share ``impaired`` of the neighbourhoods is seen by radios between a perfect one and the ``worst``."""

    impaired: float
    worst: Impairments


class Fixes(_Frozen):
    """A share ``known`` of the users has a coarse position; ``accuracy`` bounds its 1-sigma error, metres an axis."""

    known: float
    accuracy: tuple[float, float]


class Symmetry(_Frozen):
    """Probabilities and ranges of `models.mateformer.symmetry`."""

    rotate: bool
    mirror: bool
    ramps: bool
    reverse: float
    conjugate: float


class Optimiser(_Frozen):
    name: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    schedule: Literal["cosine", "step"]
    warmup_steps: int
    steps: int
    loss: Literal["mse", "distance", "relative"]  # relative: the logarithm of each neighbourhood's mean distance
    average: float  # decay of the moving average of the weights, which is what a run delivers; 0: the last weights


class Teacher(_Frozen):
    """An artifact to learn from: ``weight`` of the loss is the distance to its answers instead of to the truth."""

    artifact: str
    weight: float = Field(gt=0, le=1)


class Retrieval(_Frozen):
    """What the artifact tells the service."""

    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float = Field(default=0.0, ge=0)


class Recipe(_Frozen):
    name: str
    version: str
    seed: int
    radio: Radio
    cells: Cells
    model: dict[str, int | float | bool]
    batch: Batch
    symmetry: Symmetry
    radios: Radios
    fixes: Fixes | None = None
    optimiser: Optimiser
    teacher: Teacher | None = None
    start: str | None = None  # weights.safetensors of an artifact to go on from
    retrieval: Retrieval

    def config(self) -> MateformerConfig:
        return MateformerConfig(antennas=self.radio.array.antennas, subcarriers=self.radio.subcarriers, **self.model)

    @property
    def digest(self) -> str:
        """sha256, hex, of all that decides the weights, so neither of names nor of what the service is told.

        Settings left at their default stay out, so that a run outlives settings that it does not know yet.
        """
        decides = self.model_dump_json(exclude={"name", "version", "retrieval"}, exclude_defaults=True)
        return hashlib.sha256(decides.encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """Raises pydantic's `ValidationError`, which names the field at fault."""
    return Recipe.model_validate(yaml.safe_load(path.read_text()))
