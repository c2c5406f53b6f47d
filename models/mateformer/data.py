"""Training data of Mateformer: the users of many cells, and the neighbourhoods that are drawn from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.mateformer.recipe import Batch, Fixes, TrainingRadio
from models.radio.cells import observe_cell, table_paths
from models.radio.path_table import PathTable
from models.radio.siting import YAW_RANGE
from reference_db.index.position import PositionIndex


@dataclass(frozen=True)
class Corpus:
    """All users of the training cells in one array, and one index per cell to find neighbours with."""

    csi: NDArray[np.complex64]  # [users, antennas, subcarriers]
    positions: NDArray[np.float32]  # [users, 2]
    first: NDArray[np.int64]  # [cells] the first user of each cell
    indices: list[PositionIndex]


def build_corpus(ranges: Iterable[str], folder: Path, radio: TrainingRadio, seed: int) -> Corpus:
    """Every cell seen at its own yaw and at ``radio.yaws - 1`` random ones, as if the array were mounted differently.

    Raises `FileNotFoundError` for a cell without a path table.
    """
    rng = np.random.default_rng(seed)
    cells = []
    for path in table_paths(ranges, folder):
        table = PathTable.load(path)
        turns = [0.0, *rng.uniform(-YAW_RANGE, YAW_RANGE, radio.yaws - 1)]
        cells += [observe_cell(table, radio, table.site.yaw + turn) for turn in turns]
    sizes = [len(cell.positions) for cell in cells]
    return Corpus(
        csi=np.concatenate([cell.csi for cell in cells]),
        positions=np.concatenate([cell.positions for cell in cells]),
        first=np.cumsum([0, *sizes[:-1]]).astype(np.int64),
        indices=[PositionIndex(cell.positions) for cell in cells],
    )


def draw_neighbourhoods(
    corpus: Corpus, batch: Batch, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the corpus: known [b, p] and to infer [b, q]. ``p`` is drawn once for the whole batch.

    The index that serves requests also draws the training neighbourhoods. Each is what a coarse position near some
    user retrieves: the nearest ``spread * (p + q)`` users, of which a random ``p + q`` stay. The users to infer are
    drawn among those nearest to the point, or in a share ``batch.stray`` of the neighbourhoods among the farthest.
    """
    p, q = int(rng.integers(batch.known[0], batch.known[1] + 1)), batch.to_infer
    known, to_infer = [], []
    for _ in range(batch.neighbourhoods):
        cell = int(rng.integers(len(corpus.indices)))
        index, first = corpus.indices[cell], corpus.first[cell]
        user = first + rng.integers(len(index))
        sigma = np.exp(rng.uniform(*np.log(batch.coarse_sigma)))
        coarse = corpus.positions[user] + rng.normal(0.0, sigma, 2).astype(np.float32)
        candidates = min(round((p + q) * rng.uniform(*batch.spread)), len(index))
        nearest, _ = index.nearest(coarse[None], candidates)
        kept = nearest[0, np.sort(rng.permutation(candidates)[: p + q])]  # nearest first
        if rng.random() < batch.stray:
            kept = kept[::-1]
        chosen = rng.permutation(int(rng.integers(q, p + q + 1)))[:q]
        to_infer.append(first + kept[chosen])
        known.append(first + np.delete(kept, chosen))
    return np.stack(known), np.stack(to_infer)


def draw_coarse_positions(positions: Tensor, fixes: Fixes | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coarse positions [b, q, 2] around true positions [b, q, 2], and their 1-sigma errors per axis [b, q], metres.

    A user without a coarse position has an infinite error, and the origin as the coarse position. ``generator`` lives
    on the CPU.
    """
    if fixes is None:
        return torch.zeros_like(positions), torch.full_like(positions[..., 0], math.inf)
    low, high = (math.log(accuracy) for accuracy in fixes.accuracy)
    drawn, kept = torch.rand((2, *positions.shape[:2]), generator=generator).to(positions.device)
    noise = torch.randn(positions.shape, generator=generator).to(positions.device)
    accuracy = torch.where(kept < fixes.known, (low + (high - low) * drawn).exp(), math.inf)
    return torch.where(accuracy.isfinite()[..., None], positions + accuracy[..., None] * noise, 0.0), accuracy
