"""The recipe of a Mateformer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from models.frozen import FrozenModel
from models.mateformer.network import MateformerConfig
from models.pipeline.recipe import BaseRecipe
from models.radio.front_end import Radio
from models.radio.impairments import Impairments


class TrainingRadio(Radio):
    """Each cell is seen by ``yaws`` arrays: one at the site's own yaw, the others within ±45° of it."""

    carrier_frequency: float  # hertz
    yaws: int = Field(ge=1)


class Cells(FrozenModel):
    """Cell ranges ``city:first-last``. Training and the choice of settings never read test cells."""

    train: list[str]
    validation: list[str]
    test: list[str]
    references: int  # the first users of a validation or test cell are fingerprints, the others are located


class Batch(FrozenModel):
    """One optimiser step sees ``neighbourhoods``, each of ``known`` + ``to_infer`` users around a noisy point.

    ``known`` is drawn per step, ``coarse_sigma`` (metres) and ``spread`` per neighbourhood. The users are a random
    subset of ``spread`` times as many, which thins the density of the cell. In a share ``stray`` of the neighbourhoods
    the users to infer stand at the rim or outside, as after a bad first guess.
    """

    neighbourhoods: int
    known: tuple[int, int]
    to_infer: int
    coarse_sigma: tuple[float, float]
    spread: tuple[float, float]
    stray: float


class Radios(FrozenModel):
    """A share ``impaired`` of the neighbourhoods is seen by radios between a perfect one and the ``worst``."""

    impaired: float
    worst: Impairments


class Fixes(FrozenModel):
    """A share ``known`` of the users has a coarse position. ``accuracy`` bounds its 1-sigma error per axis, metres."""

    known: float
    accuracy: tuple[float, float]


class Symmetry(FrozenModel):
    """Switches and probabilities of the augmentations in `models.mateformer.symmetry`."""

    rotate: bool
    mirror: bool
    ramps: bool
    reverse: float
    conjugate: float


class Teacher(FrozenModel):
    """An artifact to learn from. ``weight`` is the share of its answers, instead of the truth, in the loss."""

    artifact: str
    weight: float = Field(gt=0, le=1)


class Retrieval(FrozenModel):
    """Settings that the artifact passes to the service, as in `MateformerManifest`."""

    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float = Field(default=0.0, ge=0)


class MateformerRecipe(BaseRecipe):
    without_effect: ClassVar[frozenset[str]] = frozenset({"name", "version", "retrieval"})

    family: Literal["mateformer"]
    radio: TrainingRadio
    cells: Cells
    model: dict[str, int | float | bool]  # settings of `MateformerConfig`
    batch: Batch
    symmetry: Symmetry
    radios: Radios
    fixes: Fixes | None = None
    teacher: Teacher | None = None
    start: str | None = None  # weights.safetensors of an artifact to continue from
    retrieval: Retrieval

    def config(self) -> MateformerConfig:
        """Raises `TypeError` for an unknown setting of the model."""
        return MateformerConfig(antennas=self.radio.array.antennas, subcarriers=self.radio.subcarriers, **self.model)
