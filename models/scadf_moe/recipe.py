"""A recipe for SCADF-MoE or one of its rivals: everything that decides what a training run produces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from models.pipeline.recipe import Optimiser
from models.radio.tracing import band_folder, table_path
from models.scadf_moe.trajectory_tokens import TrajectoryConfig
from reference_db.cell import AntennaArray

Cues = Literal["exact", "measured", "estimated"]
TrainingCues = Cues | Literal["served"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Radio(_Frozen):
    array: AntennaArray
    subcarriers: int
    bandwidth: float  # hertz


class Sampling(_Frozen):
    """How users become trajectories of ``length`` within ``radius`` metres of one another's first.

    Half of the spatial clusters have ``cluster`` users; a share ``held_out`` of each is kept from training. ``tested``
    trajectories with at least one of those are what is reported, a band.
    """

    length: int = Field(ge=1)
    radius: float = Field(gt=0)
    cluster: int = Field(ge=1)
    held_out: float = Field(gt=0, lt=1)
    tested: int = Field(ge=1)


class TrajectoryRecipe(_Frozen):
    """``layout`` is a traced cell, ``munich:200``; bands are carriers in hertz, with a folder of path tables each.

    ``cues`` says what stands beside the CSI: the paths' own, those with a base station's errors, what classical
    estimators make of the same CSI, or, as a service is given them, either of the last two. With ``phase``, every
    snapshot is seen in training with a random common phase, as by oscillators that nobody has locked. ``diversity``
    weighs the term that holds the tasks' routers apart.
    """

    name: str
    version: str
    seed: int
    radio: Radio
    layout: str = Field(pattern=r"^\w+:\d+$")
    train_bands: tuple[float, ...] = Field(min_length=1)
    test_bands: tuple[float, ...] = Field(min_length=1)
    sampling: Sampling
    cues: TrainingCues
    fusion: Literal["concat", "full-con", "trans-fusion", "soft-moe", "scadf-moe"]
    model: dict[str, int | bool]  # of `TrajectoryConfig`; vertices fewer than a trajectory's: in pieces of so many
    batch: int = Field(ge=1)
    phase: bool
    diversity: float = Field(ge=0)
    optimiser: Optimiser

    def config(self) -> TrajectoryConfig:
        """Raises `TypeError` for an unknown setting of the model."""
        sizes = {"antennas": self.radio.array.antennas, "subcarriers": self.radio.subcarriers}
        return TrajectoryConfig(**{"vertices": self.sampling.length, **sizes, **self.model})

    def table(self, folder: Path, band: float) -> Path:
        """Where the path table of a band lies."""
        name, _, seed = self.layout.partition(":")
        return table_path(band_folder(folder, band), name, int(seed))

    @property
    def digest(self) -> str:
        """sha256, hex, of all that decides the weights and what is reported of them."""
        decides = self.model_dump_json(exclude={"name", "version"}, exclude_defaults=True)
        return hashlib.sha256(decides.encode()).hexdigest()


def load_trajectory_recipe(path: Path) -> TrajectoryRecipe | None:
    """None for a recipe of another family; raises pydantic's `ValidationError`, which names the field at fault."""
    described = yaml.safe_load(path.read_text())
    return TrajectoryRecipe.model_validate(described) if "fusion" in described else None
