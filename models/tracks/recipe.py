"""The recipe of a track network: the Mateformer below it, the streets that it learns from, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from models.errors import build_config
from models.frozen import FrozenModel
from models.pipeline.recipe import BaseRecipe
from models.radio.impairments import Impairments
from models.radio.tracing import parse_cells
from models.tracks.network import TrackConfig

ARTIFACTS = Path(__file__).parents[1] / "artifacts"


class Cells(FrozenModel):
    """Cell ranges ``city:first-last``, traced with standing and with walking users.

    The Mateformer must not have learned the training cells: in streets that it knows its errors are not those of users.
    """

    train: list[str] = Field(min_length=1)
    validation: list[str] = Field(min_length=1)
    test: list[str] = Field(min_length=1)
    references: int = Field(gt=0)  # fingerprints of a cell, its first users

    @model_validator(mode="after")
    def _are_apart(self) -> Cells:
        places = [set(parse_cells(one)) for one in (self.train, self.validation, self.test)]
        if shared := (places[0] & places[1]) | (places[0] & places[2]) | (places[1] & places[2]):
            named = ", ".join(f"{place}:{seed}" for place, seed in sorted(shared))
            raise ValueError(f"{named} is in two of train, validation and test")
        return self


class Draws(FrozenModel):
    """Each training cell is seen ``each`` times, each time by another radio, turned, and with other fixes. So is each
    validation cell, ``calibrated`` times, to measure how far the errors of the trained network reach.

    A share ``street`` of the draws has the radio of the street, the others one that is milder than ``worst``. A share
    ``known`` of the draws has fixes, of 1-sigma errors between the bounds ``accuracy`` in metres.
    """

    each: int = Field(ge=1)
    calibrated: int = Field(ge=1)
    street: float = Field(ge=0, le=1)
    worst: Impairments
    known: float = Field(ge=0, le=1)
    accuracy: tuple[PositiveFloat, PositiveFloat]


class TracksRecipe(BaseRecipe):
    family: Literal["tracks"]
    artifact: str  # folder of the Mateformer in `ARTIFACTS`
    carrier_frequency: float  # hertz
    cells: Cells
    draws: Draws
    model: dict[str, int]  # settings of `TrackConfig`
    tracks: int = Field(ge=1)  # in a training step

    def config(self) -> TrackConfig:
        """Raises `UnknownSetting` for an unknown setting of the model."""
        return build_config(TrackConfig, dict(self.model))
