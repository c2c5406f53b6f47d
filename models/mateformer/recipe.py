"""The recipe of a Mateformer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from models.artifact import RadioContract
from models.errors import build_config
from models.frozen import FrozenModel
from models.mateformer.network import MateformerConfig
from models.pipeline.recipe import BaseRecipe
from models.radio.front_end import Radio
from models.radio.impairments import Impairments
from reference_db.layout import Layout


class TrainingRadio(Radio):
    """The radio of the headline figures. A share of the training views has it."""

    carrier_frequency: float  # hertz


class Views(FrozenModel):
    """Each training cell is seen ``each`` times: a share ``own`` of the views by the recipe's radio.

    The other radios are drawn from the lists and between the bounds, with at most ``antennas`` antennas. A view is at
    the site's own yaw once, else up to 45° from it. Frequencies in hertz, ``period`` is the shortest unambiguous delay
    in seconds, ``spacing`` in wavelengths.
    """

    each: int = Field(ge=1)
    own: float = Field(ge=0, le=1)
    columns: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    rows: tuple[int, ...] = (1, 1, 2, 4, 8)
    polarisations: tuple[Literal[1, 2], ...] = (1, 1, 2)
    antennas: int = 64
    subcarriers: tuple[int, ...] = (32, 48, 64)
    bandwidth: tuple[float, float] = (20e6, 100e6)
    carrier_frequency: tuple[float, float] = (2.0e9, 30.0e9)
    spacing: tuple[float, float] = (0.45, 0.6)
    period: float = 0.6e-6


class Survey(Layout):
    """A file of measured fingerprints in a layout of its own. ``cell_file`` describes its cell, if it does not."""

    file: str
    cell_file: str | None = None


class Cells(FrozenModel):
    """Cell ranges ``city:first-last``. Training and the choice of settings never read test cells.

    ``fingerprints`` are files or folders of measured fingerprints, to train on beside or instead of traced cells. A
    share ``held_out`` of their locations is never trained on. Fingerprints within ``same_location`` metres of each
    other are one location.
    """

    train: list[str]
    validation: list[str]
    test: list[str]
    references: int  # the first users of a validation or test cell are fingerprints, the others are located
    fingerprints: tuple[str | Survey, ...] = ()
    held_out: float = Field(0.2, gt=0, lt=1)
    same_location: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _has_training_data(self) -> Cells:
        if not (self.train or self.fingerprints):
            raise ValueError("train and fingerprints are both empty")
        return self


class Batch(FrozenModel):
    """One optimiser step sees ``neighbourhoods``, each of ``known`` + ``to_infer`` users around a noisy point.

    ``known`` is drawn per step, ``coarse_sigma`` (metres) per neighbourhood. The users are a random subset of up to
    ``thinning`` times as many, which makes a survey sparser. In a share ``stray`` of the neighbourhoods the users to
    infer stand at the rim or outside, as after a bad first guess. In a share ``lines`` the known users stand on one or
    two straight lines, as after a drive test. In a share ``mislabelled`` their positions are wrong by up to
    ``label_sigma`` (metres, 1 sigma per axis), and the model is told.
    """

    neighbourhoods: int
    known: tuple[int, int]
    to_infer: int
    coarse_sigma: tuple[float, float]
    thinning: float = Field(ge=1)
    stray: float
    lines: float
    mislabelled: float
    label_sigma: float


class Radios(FrozenModel):
    """How bad the radios of a neighbourhood are, between a perfect one and the ``worst``.

    In a share ``impaired`` of the neighbourhoods survey and users have one bad radio, in a share ``apart`` each side
    has its own, and in a share ``surveyed`` only the users have a bad one. In a share ``free`` of the bad radios
    sampling times differ by up to ``free_timing`` seconds. A share ``unknown`` of the sampling-time offsets is not told
    to the model.
    """

    impaired: float
    apart: float
    surveyed: float
    free: float
    free_timing: float
    unknown: float
    worst: Impairments


class Fixes(FrozenModel):
    """A share ``known`` of the users has a coarse position. ``accuracy`` bounds its 1-sigma error per axis, metres.

    In a share ``urban`` of the neighbourhoods, errors have heavy tails and half of their variance is common to all
    users.
    """

    known: float
    accuracy: tuple[float, float]
    urban: float


class Symmetry(FrozenModel):
    """Switches and probabilities of the augmentations in `models.mateformer.symmetry`."""

    rotate: bool
    mirror: bool
    ramps: bool
    reverse: float


class Retrieval(FrozenModel):
    """Settings that the artifact passes to the service, as in `MateformerManifest`."""

    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float = Field(default=0.0, ge=0)


class MateformerRecipe(BaseRecipe):
    """``score`` weighs the likelihood of the errors in the loss."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"name", "version", "retrieval", "ranges", "ellipse"})

    family: Literal["mateformer"]
    radio: TrainingRadio
    views: Views
    cells: Cells
    model: dict[str, int]  # settings of `MateformerConfig`
    batch: Batch
    symmetry: Symmetry
    radios: Radios
    fixes: Fixes
    score: float = 0.3
    start: str | None = None  # weights.safetensors of an artifact to continue from
    retrieval: Retrieval
    ranges: RadioContract  # that the artifact is valid for
    ellipse: float = Field(default=1.0, gt=0)  # multiplies the predicted covariances; chosen on validation cells

    def config(self) -> MateformerConfig:
        """Raises `UnknownSetting` for an unknown setting of the model."""
        return build_config(MateformerConfig, {**self.model, "ellipse": self.ellipse})
