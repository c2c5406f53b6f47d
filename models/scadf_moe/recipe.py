"""The recipe of SCADF-MoE or of one of the fusions that it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from models.errors import build_config
from models.frozen import FrozenModel
from models.pipeline.recipe import BaseRecipe
from models.radio.tracing import band_folder, table_path
from models.scadf_moe.routing_diversity import DiversityKind
from models.scadf_moe.trajectory_tokens import Readout, ScadfMoEConfig

PathFeatureKind = Literal["exact", "measured", "estimated"]
TrainingKind = PathFeatureKind | Literal["served"]


class Sampling(FrozenModel):
    """How users become trajectories of ``length`` points within ``radius`` metres of the first point.

    Half of the spatial clusters have ``cluster`` users. A share ``held_out`` of each cluster is kept from training.
    ``tested`` trajectories per band, each with at least one held-out point, are measured. With a ``region``, whole
    squares with sides of so many metres are held out instead, a share ``held_out`` of them, and all points of a tested
    trajectory are held out.
    """

    length: int = Field(ge=1)
    radius: float = Field(gt=0)
    cluster: int = Field(ge=1)
    held_out: float = Field(gt=0, lt=1)
    tested: int = Field(ge=1)
    region: float | None = Field(None, gt=0)


class CertaintyTraining(FrozenModel):
    """The second stage of training: covariances, learned with the weights of the first stage frozen.

    They are learned from points that the model was not trained on, because it is off by less at those that it was. The
    users of the path tables from number ``after`` on stay out of the first stage. They and those that it holds out are
    divided: a third each to learn from, to calibrate on and to check. A third has ``trajectories`` per band and source
    of path features.
    """

    after: int = Field(ge=1)
    trajectories: int = Field(ge=1)
    hidden: int = Field(ge=1)
    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class ScadfMoERecipe(BaseRecipe):
    """``layout`` is a traced cell such as ``munich:200``. Bands are carriers in hertz, each with its own path tables.

    ``path_features`` says what the model gets besides the CSI: the exact features of the paths, features with a base
    station's errors, features that classical estimators find in the same CSI, or (``served``) one of the last two at
    random, as in the service. ``phase`` adds a random common phase to every training snapshot, as from an unlocked
    oscillator. ``readout`` says how fused tokens become positions (`models.scadf_moe.readout`). ``diversity`` is the
    weight of the term that pushes the routers of the tasks apart, and ``diversity_kind`` its reading
    (`models.scadf_moe.routing_diversity`). Without ``certainty``, the model states no covariances and cannot be served.
    """

    family: Literal["scadf-moe"]
    layout: str = Field(pattern=r"^\w+:\d+$")
    train_bands: tuple[float, ...] = Field(min_length=1)
    test_bands: tuple[float, ...] = Field(min_length=1)
    sampling: Sampling
    path_features: TrainingKind
    fusion: Literal["concat", "full-con", "trans-fusion", "soft-moe", "scadf-moe"]
    readout: Readout = "own"
    model: dict[str, int | bool | float]  # of `ScadfMoEConfig`; with fewer vertices, a trajectory is located in pieces
    batch: int = Field(ge=1)
    phase: bool
    diversity: float = Field(ge=0)
    diversity_kind: DiversityKind = "written"
    certainty: CertaintyTraining | None = None

    @model_validator(mode="after")
    def _check_readout(self) -> Self:
        if self.fusion == "scadf-moe" and self.readout == "numbers":
            raise ValueError("readout numbers is for the rivals: SCADF-MoE has a token matrix for each task")
        return self

    def for_trunk(self) -> ScadfMoERecipe:
        """The recipe of the first stage, whose weights do not depend on the second."""
        return self.model_copy(update={"certainty": None})

    def config(self) -> ScadfMoEConfig:
        """Raises `UnknownSetting` for an unknown setting of the model."""
        sizes = {"antennas": self.radio.array.antennas, "subcarriers": self.radio.subcarriers}
        fixed = {"vertices": self.sampling.length, "readout": self.readout, **sizes}
        return build_config(ScadfMoEConfig, {**fixed, **self.model})

    def table_path(self, folder: Path, band: float) -> Path:
        """The path table of a band."""
        name, _, seed = self.layout.partition(":")
        return table_path(band_folder(folder, band), name, int(seed))
