"""Locates the held-out users of a cell as the service would, beside weighted kNN and the bare GNSS fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.mateformer import Mateformer
from models.training.corpus import RadioCell
from models.training.recipe import Recipe
from reference_db.knn import every_variant
from reference_db.position_index import PositionIndex

# csi_known [b, n, a, s, 2], positions_known [b, n, 2], csi [b, 1, a, s, 2] float32 -> positions [b, 1, 2]
Locate = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

USERS_AT_ONCE = 64


@dataclass(frozen=True)
class CellErrors:
    """Errors in metres of every held-out user of one cell, float32 [users], by who located them."""

    cell: str
    references: int
    unreached: int
    line_of_sight: NDArray[np.bool_]
    errors: dict[str, NDArray[np.float32]]  # "mateformer", "gnss", and "knn ..." of every kind tried

    @property
    def best_knn(self) -> str:
        """The kNN with the smallest mean error: chosen with hindsight, in the rival's favour."""
        return min((name for name in self.errors if name.startswith("knn")), key=lambda n: self.errors[n].mean())


def torch_locate(model: Mateformer, device: torch.device) -> Locate:
    """The model as a function over arrays."""
    model.eval()

    def locate(
        csi_known: NDArray[np.float32], positions_known: NDArray[np.float32], csi: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = (torch.from_numpy(array).to(device) for array in (csi_known, positions_known, csi))
            located: NDArray[np.float32] = model(*inputs).cpu().numpy()
            return located

    return locate


def evaluate(locate: Locate, cell: RadioCell, recipe: Recipe, seed: int) -> CellErrors:
    """The cell's first users are the reference database; every other one is located from a GNSS fix of known sigma."""
    held = np.arange(recipe.cells.references, len(cell.positions))
    index = PositionIndex(cell.positions[: recipe.cells.references])
    rng = np.random.default_rng([seed, *cell.name.encode()])
    truth = cell.positions[held]
    gnss = truth + rng.normal(0.0, recipe.cells.coarse_sigma, truth.shape).astype(np.float32)
    n = recipe.retrieval.neighbourhood_size

    *earlier, last = _locate(locate, cell, index, held, gnss, n, recipe.retrieval.passes)
    estimates = {"gnss": gnss, "mateformer": last}
    estimates |= {f"mateformer, {passes} pass": points for passes, points in enumerate(earlier, start=1)}
    nearest, _ = index.nearest(gnss, n)
    rivals = every_variant(cell.csi[held], cell.csi[nearest], cell.positions[nearest])
    estimates |= {f"knn {feature} k={k}": points for (feature, k), points in rivals.items()}
    return CellErrors(
        cell=cell.name,
        references=recipe.cells.references,
        unreached=cell.unreached,
        line_of_sight=cell.line_of_sight[held],
        errors={name: np.linalg.norm(points - truth, axis=1) for name, points in estimates.items()},
    )


def _locate(
    locate: Locate,
    cell: RadioCell,
    index: PositionIndex,
    held: NDArray[np.int64],
    coarse: NDArray[np.float32],
    n: int,
    passes: int,
) -> NDArray[np.float32]:
    """What each pass answers, float32 [passes, users, 2]: the next looks around the last one's answers."""
    located = np.empty((passes, *coarse.shape), np.float32)
    for first in range(0, len(held), USERS_AT_ONCE):
        users = slice(first, first + USERS_AT_ONCE)
        csi = _pairs(cell.csi[held[users], None])
        centres = coarse[users]
        for number in range(passes):
            nearest, _ = index.nearest(centres, n)
            centres = locate(_pairs(cell.csi[nearest]), cell.positions[nearest], csi)[:, 0]
            located[number, users] = centres
    return located


def _pairs(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(csi)[..., None].view(np.float32)
