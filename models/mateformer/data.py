"""Training data of Mateformer: cells as many radios see them, and the neighbourhoods that are drawn from them."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.measured import BadMeasuredCell, SplitCell, split_measured_cells
from models.mateformer.recipe import Batch, Fixes, MateformerRecipe, Views
from models.radio.cells import observe_cell, table_paths
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.siting import YAW_RANGE
from reference_db.cell import AntennaArray
from reference_db.index.position import PositionIndex

SAMPLE = 256  # snapshots that a view's scale and delay origin are measured on
LINE_WIDTH_M = 0.5  # how far from its line a user of a drive test may stand
PAVEMENTS_M = (4.0, 12.0)  # between the two lines of a drive test


@dataclass(frozen=True)
class View:
    """The users of one cell as one radio sees them."""

    csi: NDArray[np.float16]  # [users, antennas, subcarriers, 2], RMS 1
    positions: NDArray[np.float32]  # [users, 2]
    index: PositionIndex
    channel: ChannelTransform
    bandwidth: float
    measured: Measured | None = None  # of a view that was not synthesised


@dataclass(frozen=True)
class Measured:
    """What is known of measured fingerprints."""

    locations: NDArray[np.int64]  # [users]; those of one location are nearly copies of each other
    sigmas: NDArray[np.float32]  # [users] 1-sigma errors of the positions, metres
    sto: tuple[float | None, float | None]  # of the radios of survey and users, 1 sigma in seconds


class Drawn(NamedTuple):
    """One neighbourhood: a view and its rows."""

    view: View
    known: NDArray[np.int64]  # [p]
    to_infer: NDArray[np.int64]  # [q]

    def label_sigmas(self) -> NDArray[np.float32]:
        """[p] 1-sigma errors of the known positions as measured, metres."""
        measured = self.view.measured
        return np.zeros(len(self.known), np.float32) if measured is None else measured.sigmas[self.known]


def build_views(recipe: MateformerRecipe, folder: Path) -> list[View]:
    """Every training cell as each of its radios sees it, then every measured cell as often as a traced one.

    Raises `FileNotFoundError` for a cell without a path table, and `BadMeasuredCell`.
    """
    jobs = []
    for number, path in enumerate(table_paths(recipe.cells.train, folder)):
        table = PathTable.load(path)
        rng = np.random.default_rng([recipe.seed, number])
        for view in range(recipe.views.each):
            own = view < max(1, round(recipe.views.own * recipe.views.each))
            carrier, radio = (None, recipe.radio) if own else draw_radio(recipe.views, rng)
            yaw = table.site.yaw + (rng.uniform(-YAW_RANGE, YAW_RANGE) if view else 0.0)
            jobs.append((table, radio, yaw, carrier))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        traced = list(pool.map(lambda job: observe_view(*job), jobs))
    splits = split_measured_cells(recipe.cells, recipe.seed)
    for cell in (split.measured.cell for split in splits):
        if reason := recipe.ranges.reason_against(cell):
            raise BadMeasuredCell(f"cell {cell.cell_id!r} is outside the recipe's ranges: {reason}")
    measured = [view_measured(split) for split in splits]
    return traced + measured * (recipe.views.each if traced else 1)


def draw_radio(views: Views, rng: np.random.Generator) -> tuple[float, Radio]:
    """A carrier in hertz, and a radio that sees every user in the near field or not as physics has it."""
    while True:
        array = AntennaArray(
            rows=int(rng.choice(views.rows)),
            columns=int(rng.choice(views.columns)),
            polarisations=int(rng.choice(views.polarisations)),
            spacing=0.5 if rng.random() < 0.5 else float(rng.uniform(*views.spacing)),
        )
        subcarriers = int(rng.choice(views.subcarriers))
        bandwidth, carrier = (
            float(np.exp(rng.uniform(*np.log(bounds)))) for bounds in (views.bandwidth, views.carrier_frequency)
        )
        if array.antennas <= views.antennas and subcarriers / bandwidth >= views.period:
            pattern = "tr38901" if rng.random() < 0.5 else "isotropic"
            radio = Radio(
                array=array, subcarriers=subcarriers, bandwidth=bandwidth, wavefronts="spherical", pattern=pattern
            )
            return carrier, radio


def observe_view(table: PathTable, radio: Radio, yaw: float, carrier: float | None) -> View:
    cell = observe_cell(table, radio, yaw, carrier)
    return build_view(cell.csi, cell.positions, radio, carrier or table.site.carrier_frequency)


def view_measured(split: SplitCell) -> View:
    """The locations of a measured cell to train on."""
    measured, locations = split.training()
    cell = measured.cell
    radio = Radio(array=cell.array, subcarriers=cell.subcarriers, bandwidth=cell.bandwidth)
    view = build_view(measured.csi, measured.positions, radio, cell.carrier_frequency)
    return replace(view, measured=Measured(locations, measured.sigmas, (cell.survey_sto, cell.user_sto)))


def build_view(
    csi: NDArray[np.complex64], positions: NDArray[np.float32], radio: Radio, carrier_frequency: float
) -> View:
    """A view from CSI [users, antennas, subcarriers] and positions [users, 2] in metres."""
    csi = csi / np.float32(np.sqrt(np.square(np.abs(csi)).mean()))
    sample = csi[np.linspace(0, len(csi) - 1, min(SAMPLE, len(csi))).astype(int)]
    channel = ChannelTransform.of(
        radio.array, radio.subcarriers, radio.bandwidth, carrier_frequency, None, None, sample
    )
    halves = np.ascontiguousarray(csi)[..., None].view(np.float32).astype(np.float16)
    return View(halves, positions, PositionIndex(positions), channel, radio.bandwidth)


def draw_neighbourhoods(views: list[View], batch: Batch, rng: np.random.Generator) -> list[Drawn]:
    """The neighbourhoods of one step. The number of known users is drawn once for all of them.

    The index that serves requests also draws the training neighbourhoods. Each is what a coarse position near some
    user retrieves from a survey of some density. The users to infer are drawn among those nearest to the point, or in
    a share ``batch.stray`` of the neighbourhoods among the farthest.
    """
    p, q = int(rng.integers(batch.known[0], batch.known[1] + 1)), batch.to_infer
    return [
        _draw_neighbourhood(views[int(rng.integers(len(views)))], p, q, batch, rng) for _ in range(batch.neighbourhoods)
    ]


def _draw_neighbourhood(view: View, p: int, q: int, batch: Batch, rng: np.random.Generator) -> Drawn:
    user = int(rng.integers(len(view.index)))
    sigma = np.exp(rng.uniform(*np.log(batch.coarse_sigma)))
    centre = view.positions[user] + rng.normal(0.0, sigma, 2).astype(np.float32)
    if view.measured is not None:
        return _draw_measured(view, view.measured.locations, centre, p, q, batch, rng)
    if rng.random() < batch.lines:
        return _draw_drive_test(view, centre, p, q, rng)
    thinning = batch.thinning ** (rng.random() ** 1.5)  # denser surveys more often
    candidates = min(round((p + q) * thinning), len(view.index))
    nearest, _ = view.index.nearest(centre[None], candidates)
    kept = nearest[0, np.sort(rng.permutation(candidates)[: p + q])]  # nearest first
    if rng.random() < batch.stray:
        kept = kept[::-1]
    chosen = rng.permutation(int(rng.integers(q, p + q + 1)))[:q]
    return Drawn(view, np.delete(kept, chosen), kept[chosen])


def _draw_measured(
    view: View,
    locations: NDArray[np.int64],
    centre: NDArray[np.float32],
    p: int,
    q: int,
    batch: Batch,
    rng: np.random.Generator,
) -> Drawn:
    """Users of some locations near the centre, and known ones of other locations: as at locations never surveyed.

    Where there are too few fingerprints, some are drawn twice.
    """
    nearest = view.index.nearest(centre[None], len(view.index))[0][0]
    pool = nearest[: round((p + q) * batch.thinning ** (rng.random() ** 1.5))]
    if len(names := np.unique(locations[pool])) == 1:
        pool, names = nearest, np.unique(locations)
    chosen = rng.permutation(names)[: max(1, len(names) * q // (p + q))]
    own = np.isin(locations[pool], chosen)
    return Drawn(view, np.resize(rng.permutation(pool[~own]), p), np.resize(rng.permutation(pool[own]), q))


def _draw_drive_test(view: View, centre: NDArray[np.float32], p: int, q: int, rng: np.random.Generator) -> Drawn:
    """Known users on one straight line near the centre, or on two parallel ones, and users to infer around it."""
    around, _ = view.index.nearest(centre[None], min(3 * q, len(view.index)))
    to_infer = rng.permutation(around[0])[:q]
    angle = rng.uniform(0, math.pi)
    across = np.array([-math.sin(angle), math.cos(angle)])
    offset = (view.positions - centre) @ across - rng.uniform(-3, 3)  # [users] from the line, or from between both
    half = rng.uniform(*PAVEMENTS_M) / 2 if rng.random() < 0.5 else 0.0
    width = np.maximum(np.abs(np.abs(offset) - half), LINE_WIDTH_M)
    along = np.linalg.norm(view.positions - centre, axis=1)
    width[to_infer] = np.inf
    # The users within the width come first, by distance; a street with too few of them lends the next ones.
    known = np.lexsort((along, width))[:p]
    return Drawn(view, known, to_infer)


def draw_coarse_positions(positions: Tensor, fixes: Fixes, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The fields of `Coarse` for users at positions [b, q, 2]."""
    b, q = positions.shape[:2]
    device = positions.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    low, high = (math.log(accuracy) for accuracy in fixes.accuracy)
    accuracy = torch.where(uniform(b, q) < fixes.known, (low + (high - low) * uniform(b, q)).exp(), math.inf)
    # Student-t with three degrees of freedom and unit variance; the offset of a reflected signal is common to a street.
    tails = normal(b, q, 2) / torch.stack([normal(b, q).square() for _ in range(3)]).sum(0).sqrt()[..., None]
    urban = (tails + normal(b, 1, 2)) / math.sqrt(2)
    error = torch.where((uniform(b) < fixes.urban)[:, None, None], urban, normal(b, q, 2))
    drawn = torch.where(accuracy.isfinite()[..., None], positions + accuracy[..., None] * error, 0.0)
    return drawn, accuracy
