"""The recipe of LWLM: its pretraining on unlabelled links, and the decoders trained with labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from models.errors import build_config
from models.frozen import FrozenModel
from models.lwlm.anchors import SPAN
from models.lwlm.network import LwlmConfig
from models.pipeline.recipe import BaseRecipe, Optimiser

EncoderKind = Literal["transformer", "cnn"]


class Streets(FrozenModel):
    """Streets ``city:first-last``, each with ``stations`` base stations. Training never reads the test streets.

    The validation streets choose settings and calibrate the spreads that the decoders predict.
    """

    train: list[str]
    validation: list[str]
    test: list[str]
    stations: int = Field(ge=2)


class Configurations(FrozenModel):
    """The radios that observe the links: linear arrays of half a wavelength's spacing.

    Bandwidths in hertz are drawn log-uniformly. ``snr_db`` bounds the noise; every snapshot has a random phase.
    """

    antennas: list[int] = Field(min_length=1)
    subcarriers: list[int] = Field(min_length=1)
    bandwidth: tuple[float, float]
    snr_db: tuple[float, float]


class Objectives(FrozenModel):
    """Weights of the three losses. ``batch`` users a step, each seen twice; arrays turn by up to ``turn`` radians."""

    dti: float = Field(ge=0)
    sf_mcm: float = Field(ge=0)
    picl: float = Field(ge=0)
    batch: int = Field(ge=2)
    turn: float = Field(ge=0)


class SnapshotConfigurations(FrozenModel):
    """Configurations of labelled or tested snapshots. Every one is drawn at random; bandwidths in hertz.

    Anchors search `SPAN` bins of delay. With fewer subcarriers, the last of them repeat the first.
    """

    antennas: list[int] = Field(min_length=1)
    subcarriers: list[Annotated[int, Field(ge=SPAN)]] = Field(min_length=1)
    bandwidths: list[float] = Field(min_length=1)


class Decoding(FrozenModel):
    """How the decoders are trained: on ``labels`` snapshots, those that all stations have of a user.

    ``pretrained`` starts the encoder from the pretraining, ``frozen`` leaves it as it is. ``anchored`` decoders correct
    classical estimates. With ``attention``, each station has a learned score in a fusion, as in the paper; without, its
    covariance alone decides. The labelled users are those of the training streets or, at ``home``, of every other block
    of the tested streets, of which the rest is tested. ``batch`` is in users.
    """

    seed: int = 1
    encoder: EncoderKind = "transformer"
    pretrained: bool = True
    frozen: bool = False
    anchored: bool = True
    attention: bool = True
    home: bool = False
    labels: int | None = None  # None: those of all users
    snapshots: SnapshotConfigurations
    hidden: int = Field(128, ge=1)
    batch: int = Field(ge=1)
    optimiser: Optimiser


class LwlmRecipe(BaseRecipe):
    """``radio`` is the widest radio. ``optimiser`` is that of the pretraining.

    ``carrier_frequency`` bounds the carriers in hertz that the artifact serves: those near the traced one.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset({"name", "version", "carrier_frequency"})

    family: Literal["lwlm"]
    streets: Streets
    carrier_frequency: tuple[float, float]
    configurations: Configurations
    model: dict[str, int | tuple[int, int, int]]  # settings of `LwlmConfig`
    objectives: Objectives
    decoding: Decoding
    tested: SnapshotConfigurations

    def config(self) -> LwlmConfig:
        """Raises `UnknownSetting` for an unknown setting of the model, and `ValueError` for slices that do not fit."""
        return build_config(LwlmConfig, self.model)

    def for_pretraining(self) -> Self:
        """The recipe without what does not decide the encoder's weights."""
        return self.model_copy(update={"decoding": None, "tested": None})

    def for_decoders(self) -> Self:
        """The recipe as the learner of the decoders reads it: with their optimiser and seed."""
        return self.model_copy(update={"optimiser": self.decoding.optimiser, "seed": self.decoding.seed})
