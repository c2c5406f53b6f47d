"""Locates the held-out users of a cell as the service does, and compares with weighted kNN and the bare GNSS fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from models.mateformer.conditions import PERFECT, Condition
from models.mateformer.locators import Locate
from models.radio.cells import RadioCell
from models.radio.impairments import Impairments, impair
from reference_db.index.signal_features import signal_feature
from reference_db.knn import Feature, csi_distances_by_feature, knn_baselines
from reference_db.references import References
from reference_db.retrieval import first_neighbourhood, next_neighbourhood

USERS_AT_ONCE = 64
SEED = 2026
MATEFORMER, GNSS, KNN = "mateformer", "gnss", "knn"  # prefixes of the names in `Errors`

# Metres, [users], by method: "mateformer", "mateformer, pass 1" ..., "gnss", "knn ..." for every kNN tried.
Errors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class CellErrors:
    """The held-out users of one cell and the errors of every method under each condition."""

    cell: str
    unreached: int
    line_of_sight: NDArray[np.bool_]  # [users]
    errors: dict[Condition, Errors]


def best_knn(errors: Errors) -> str | None:
    """The kNN with the smallest mean error. The choice has hindsight, in favour of kNN."""
    rivals = [name for name in errors if name.startswith(KNN)]
    return min(rivals, key=lambda name: errors[name].mean(), default=None)


def locate_cell(
    locate: Locate,
    cell: RadioCell,
    conditions: Iterable[Condition],
    held: int,
    bandwidth: float,
    users: int | None = None,
    progress: Callable[[int], object] = lambda located: None,
) -> CellErrors:
    """Locates the users from row ``held`` on, or the first ``users`` of them, under every condition.

    The conditions come from `select_possible`. A condition's references are the first users of the cell, all before
    ``held``. ``bandwidth`` is in hertz. ``progress`` is called with the number of users located since its last call;
    each pass counts.
    """
    located = slice(held, None if users is None else held + users)
    truth = cell.positions[located]
    # All conditions share one draw of errors and noise, so they differ only in what they are about.
    rng = np.random.default_rng([SEED, *cell.name.encode()])
    noise_seed = int(rng.integers(2**62))
    gnss_error = rng.normal(0.0, 1.0, truth.shape).astype(np.float32)
    errors: dict[Condition, Errors] = {}
    by_csi = groupby(sorted(conditions, key=_csi_key), key=lambda condition: (condition.radio, condition.surveyed))
    for (radio, surveyed), group in by_csi:
        csi = _impaired_csi(cell.csi, radio, bandwidth, noise_seed)
        if surveyed:
            csi = np.concatenate([cell.csi[:held], csi[held:]])
        features, rivals = signal_feature(csi[located]), None
        for references_count, same_references in groupby(group, key=lambda condition: condition.references):
            references = References.of(cell.positions[:references_count], csi[:references_count])
            for condition in same_references:
                rows = _Users(csi[located], features, _draw_fixes(truth, gnss_error, condition.gnss))
                passes = _locate_users(locate, csi, references, rows, condition, progress)
                estimates = {MATEFORMER: passes[-1]}
                estimates |= {f"{MATEFORMER}, pass {n}": points for n, points in enumerate(passes[:-1], start=1)}
                if condition.rivals:
                    rivals = rivals or csi_distances_by_feature(csi[located], csi[:held])
                    estimates |= _locate_by_rivals(rivals, references, rows.coarse, condition)
                errors[condition] = {name: np.linalg.norm(at - truth, axis=1) for name, at in estimates.items()}
    return CellErrors(cell.name, cell.unreached, cell.line_of_sight[located], errors)


@dataclass(frozen=True)
class _Users:
    csi: NDArray[np.complex64]  # [u, a, s]
    features: NDArray[np.float32]  # [u, D]
    coarse: NDArray[np.float32]  # [u, 2], NaN for a user without a fix


def _csi_key(condition: Condition) -> tuple[str, bool, int]:
    return condition.radio.model_dump_json(), condition.surveyed, -(condition.references or 0)


def _impaired_csi(csi: NDArray[np.complex64], radio: Impairments, bandwidth: float, seed: int) -> NDArray[np.complex64]:
    if radio == PERFECT:
        return csi
    generator = torch.Generator().manual_seed(seed)
    impaired: NDArray[np.complex64] = impair(torch.from_numpy(csi), radio, bandwidth, generator).numpy()
    return impaired


def _draw_fixes(truth: NDArray[np.float32], error: NDArray[np.float32], sigma: float | None) -> NDArray[np.float32]:
    return np.full_like(truth, np.nan) if sigma is None else truth + np.float32(sigma) * error


def _locate_users(
    locate: Locate,
    csi: NDArray[np.complex64],
    references: References,
    users: _Users,
    condition: Condition,
    progress: Callable[[int], object],
) -> NDArray[np.float32]:
    """The estimates of each pass, float32 [passes, users, 2]. A pass retrieves around the previous estimate."""
    passes, n, pitch = condition.passes, condition.neighbours, condition.pitch
    coarse, error = np.nan_to_num(users.coarse)[:, None], np.float32(condition.gnss or np.inf)
    located = np.empty((passes, *users.coarse.shape), np.float32)
    accuracy = np.full(len(users.coarse), np.nan if condition.gnss is None else condition.gnss, np.float32)
    rng = np.random.default_rng(SEED)
    for first in range(0, len(users.coarse), USERS_AT_ONCE):
        some = slice(first, first + USERS_AT_ONCE)
        asked = _real_pairs(users.csi[some, None])
        near = first_neighbourhood(
            references, condition.mode, users.features[some], users.coarse[some], accuracy[some], n, rng, pitch=pitch
        )
        fixes = coarse[some], np.full((len(asked), 1), error)
        for number in range(passes):
            if number:
                near = next_neighbourhood(references, located[number - 1, some], n, pitch=pitch)
            neighbourhood = _real_pairs(csi[near]), references.positions[near]
            located[number, some] = locate(*neighbourhood, asked, *fixes)[:, 0]
            progress(len(asked))
    return located


def _locate_by_rivals(
    distances: Mapping[Feature, NDArray[np.float32]],
    references: References,
    coarse: NDArray[np.float32],
    condition: Condition,
) -> dict[str, NDArray[np.float32]]:
    """The estimates of the bare fix and of every kNN."""
    distances = {feature: d[:, : len(references)] for feature, d in distances.items()}
    fix = None if condition.gnss is None else coarse
    rivals = knn_baselines(distances, references.positions, fix, condition.gnss or 0.0, condition.neighbours)
    return ({} if fix is None else {GNSS: fix}) | {f"{KNN} {name}": points for name, points in rivals.items()}


def _real_pairs(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(csi)[..., None].view(np.float32)
