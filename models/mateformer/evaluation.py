"""Locates held-out users of a cell as the service does, and compares with weighted kNN, the bare fix and a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import PERFECT, Condition, FixErrors
from models.mateformer.designs import Design
from models.mateformer.layouts import choose_references
from models.mateformer.locators import Locator
from models.radio.cells import RadioCell
from models.radio.impairments import Impairments, impair
from reference_db.index.signal_features import signal_feature
from reference_db.knn import Feature, csi_distances_by_feature, knn_baselines
from reference_db.locations import find_squares
from reference_db.references import References
from reference_db.retrieval import LeftOut, first_neighbourhood, next_neighbourhood

USERS_AT_ONCE = 64
TRANSFORM_SNAPSHOTS = 256
SEED = 2026
MATEFORMER, GNSS, KNN, BOUND = "mateformer", "gnss", "knn", "bound"  # prefixes of the names in `Errors`
CHI_SQUARED_95 = 5.991  # of two degrees of freedom: the 95 % ellipse of a Gaussian

_Floats = NDArray[np.float32]
# Metres, [users], by method: "mateformer", "mateformer, pass 1" ..., "gnss", "knn ..." for every kNN tried, "bound".
Errors = dict[str, _Floats]
# The position error bound of users (rows of the cell) under a condition, metres [users].
Bound = Callable[[Condition, NDArray[np.int64]], _Floats]


@dataclass(frozen=True)
class Ellipses:
    """The predicted 95 % ellipses of users, before any calibration."""

    squared: _Floats  # [users] squared Mahalanobis distance of the true position; inside up to CHI_SQUARED_95
    area: _Floats  # [users] square metres

    @classmethod
    def of(cls, located: _Floats, covariances: _Floats, truth: _Floats) -> Ellipses:
        """located [u, 2], covariances [u, 2, 2], truth [u, 2]."""
        off, wide = (truth - located).astype(np.float64), covariances.astype(np.float64)
        squared = np.einsum("ui,ui->u", off, np.linalg.solve(wide, off[..., None])[..., 0])
        area = math.pi * CHI_SQUARED_95 * np.sqrt(np.linalg.det(wide))
        return cls(squared.astype(np.float32), area.astype(np.float32))


@dataclass(frozen=True)
class Located:
    """The held-out users of a cell under one condition."""

    line_of_sight: NDArray[np.bool_] | None  # [users]; None if unknown
    errors: Errors
    ellipses: Ellipses


@dataclass(frozen=True)
class CellErrors:
    """One cell under each condition. All conditions of one radio design have the same users."""

    cell: str
    unreached: int
    located: dict[Condition, Located]


def locate_cell(
    locator: Locator,
    cell: RadioCell,
    design: Design,
    conditions: Iterable[Condition],
    held: int,
    users: int | None = None,
    bound: Bound | None = None,
    progress: Callable[[int], object] = lambda located: None,
    sto: tuple[float | None, float | None] | None = None,
) -> dict[Condition, Located]:
    """Locates the users from row ``held`` on, or the first ``users`` of them, under every condition of this design.

    The conditions come from `select_possible`. A condition's references are among the first users of the cell, all
    before ``held``. ``progress`` is called with the number of users located since its last call; each pass counts.
    ``sto`` is what the model is told of the radios' timing instead of what the conditions say.
    """
    rows = np.arange(held, len(cell.positions))[:users]
    truth = cell.positions[rows]
    # All conditions share one draw of errors and noise, so they differ only in what they are about.
    draws = Draws.of(cell.name, len(cell.positions), len(rows))
    found: dict[Condition, Located] = {}
    for observed in _group(conditions, _observation_key):
        csi = _observe(cell.csi, observed[0], held, design.radio.bandwidth, draws.noise_seed)
        asked, features = csi[rows], signal_feature(csi[rows])
        rivals: dict[Feature, _Floats] | None = None
        for surveyed in _group(observed, _survey_key):
            survey = _Survey.of(locator, design, csi, cell.positions, surveyed[0], asked, draws, sto)
            for condition in surveyed:
                coarse = draws.fixes(truth, condition)
                left_out = _leave_regions_out(cell.positions, survey.rows, rows, condition.region)
                estimates, covariances = _locate_users(locator, survey, features, coarse, condition, left_out, progress)
                positions = {MATEFORMER: estimates[-1]}
                positions |= {f"{MATEFORMER}, pass {n}": points for n, points in enumerate(estimates[:-1], start=1)}
                if condition.rivals:
                    rivals = rivals or csi_distances_by_feature(asked, csi[:held])
                    positions |= _locate_by_rivals(rivals, survey, coarse, condition, left_out)
                errors = {name: np.linalg.norm(at - truth, axis=1) for name, at in positions.items()}
                if bound is not None and condition.rivals:
                    errors[BOUND] = bound(condition, rows)
                found[condition] = Located(
                    cell.line_of_sight[rows], errors, Ellipses.of(estimates[-1], covariances, truth)
                )
    return found


@dataclass(frozen=True)
class Draws:
    """The random errors of one cell's users, by 1 sigma."""

    noise_seed: int
    fix_errors: dict[FixErrors, _Floats]  # [located users, 2]
    label_errors: _Floats  # [users of the cell, 2]

    @classmethod
    def of(cls, cell_name: str, users: int, located: int) -> Draws:
        name, shape = cell_name.encode(), (located, 2)
        rng = np.random.default_rng([SEED, *name])
        noise_seed = int(rng.integers(2**62))
        normal = rng.normal(0.0, 1.0, shape)
        others, labels = (np.random.default_rng([SEED, *name, stream]) for stream in (1, 2))
        common, uniform, tailed = others.normal(0.0, 1.0, 2), others.uniform(-1, 1, shape), others.standard_t(3, shape)
        fix_errors: dict[FixErrors, NDArray[np.float64]] = {
            "gaussian": normal,
            "heavy-tailed": tailed / math.sqrt(3),
            "correlated": (normal + common) / math.sqrt(2),
            "uniform": uniform * math.sqrt(3),
        }
        label_errors = labels.normal(0.0, 1.0, (users, 2)).astype(np.float32)
        return cls(noise_seed, {kind: e.astype(np.float32) for kind, e in fix_errors.items()}, label_errors)

    def fixes(self, truth: _Floats, condition: Condition) -> _Floats:
        if condition.gnss is None:
            return np.full_like(truth, np.nan)
        return truth + np.float32(condition.gnss) * self.fix_errors[condition.fixes]


@dataclass(frozen=True)
class _Survey:
    """The references of a condition and its users, as the model sees them."""

    rows: NDArray[np.int64]  # of the cell
    references: References
    known: _Floats  # [references, F]
    asked: _Floats  # [users, F]

    @classmethod
    def of(
        cls,
        locator: Locator,
        design: Design,
        csi: NDArray[np.complex64],
        positions: _Floats,
        condition: Condition,
        users: NDArray[np.complex64],
        draws: Draws,
        sto: tuple[float | None, float | None] | None,
    ) -> _Survey:
        rows = choose_references(positions, condition.layout, condition.references)
        shown = positions[rows] + np.float32(condition.label_sigma) * draws.label_errors[rows]
        radio, survey = design.radio, csi[rows]
        sample = survey[np.linspace(0, len(survey) - 1, min(TRANSFORM_SNAPSHOTS, len(survey))).astype(int)]
        channel = ChannelTransform.of(
            radio.array, radio.subcarriers, radio.bandwidth, design.carrier_frequency, *(sto or condition.sto), sample
        )
        return cls(
            rows, References.of(shown, survey), locator.describe(channel, survey), locator.describe(channel, users)
        )


def _observation_key(condition: Condition) -> tuple[object, ...]:
    """Equal for conditions under which references and users report the same CSI."""
    return condition.radio.model_dump_json(), condition.surveyed, condition.alike


def _survey_key(condition: Condition) -> tuple[object, ...]:
    """Equal, given equal CSI, for conditions with the same references, described in the same way."""
    return condition.layout, -(condition.references or 0), condition.label_sigma, condition.timing_stated


def _group(conditions: Iterable[Condition], key: Callable[[Condition], tuple[object, ...]]) -> list[list[Condition]]:
    return [list(group) for _, group in groupby(sorted(conditions, key=key), key=key)]


def _observe(
    csi: NDArray[np.complex64], condition: Condition, held: int, bandwidth: float, seed: int
) -> NDArray[np.complex64]:
    """The CSI of all users of a cell under a condition's radio. Those before ``held`` may be references."""
    if condition.radio == PERFECT:
        return csi
    users = _impair(csi, condition.radio, bandwidth, seed)
    if not condition.surveyed:
        return users
    references = csi[:held]
    if condition.alike:
        worse = Impairments(phase=condition.radio.phase, timing_s=condition.radio.timing_s)
        references = _impair(references, worse, bandwidth, seed + 1)
    return np.concatenate([references, users[held:]])


def _impair(csi: NDArray[np.complex64], radio: Impairments, bandwidth: float, seed: int) -> NDArray[np.complex64]:
    generator = torch.Generator().manual_seed(seed)
    impaired: NDArray[np.complex64] = impair(torch.from_numpy(csi), radio, bandwidth, generator).numpy()
    return impaired


def _leave_regions_out(
    positions: _Floats, references: NDArray[np.int64], users: NDArray[np.int64], side: float | None
) -> LeftOut | None:
    """Each user ignores the references in its own square, ``side`` metres wide. ``references``, ``users``: rows.

    What describes the survey as a whole, such as its level and its k-NN bandwidth, is of all references.
    """
    if side is None:
        return None
    squares = find_squares(positions, side)
    return LeftOut(squares[references], squares[users])


def _locate_users(
    locator: Locator,
    survey: _Survey,
    features: _Floats,
    fixes: _Floats,  # [u, 2], NaN for a user without a fix
    condition: Condition,
    left_out: LeftOut | None,
    progress: Callable[[int], object],
) -> tuple[_Floats, _Floats]:
    """The estimates of each pass, [passes, users, 2], and the last pass's covariances [users, 2, 2].

    A pass retrieves around the previous estimate.
    """
    references, passes, pitch = survey.references, condition.passes, condition.pitch
    n = min(condition.neighbours, len(references) - (0 if left_out is None else left_out.most))
    coarse, error = np.nan_to_num(fixes)[:, None], np.float32(condition.gnss or np.inf)
    located = np.empty((passes, *fixes.shape), np.float32)
    covariances = np.empty((len(fixes), 2, 2), np.float32)
    accuracy = np.full(len(fixes), np.nan if condition.gnss is None else condition.gnss, np.float32)
    rng = np.random.default_rng(SEED)
    for first in range(0, len(fixes), USERS_AT_ONCE):
        some = slice(first, first + USERS_AT_ONCE)
        out = None if left_out is None else left_out.taken(some)
        near = first_neighbourhood(
            references, condition.mode, features[some], fixes[some], accuracy[some], n, rng, out, pitch
        )
        asked = survey.asked[some, None], coarse[some], np.full((len(near), 1), error)
        sigmas = np.full(near.shape, condition.label_sigma, np.float32)
        for number in range(passes):
            if number:
                near = next_neighbourhood(references, located[number - 1, some], n, out, pitch)
            found = locator.locate(survey.known[near], references.positions[near], sigmas, *asked)
            located[number, some], covariances[some] = found.positions[:, 0], found.covariances[:, 0]
            progress(len(near))
    return located, covariances


def _locate_by_rivals(
    distances: Mapping[Feature, _Floats],
    survey: _Survey,
    coarse: _Floats,
    condition: Condition,
    left_out: LeftOut | None,
) -> dict[str, _Floats]:
    """The estimates of the bare fix and of every kNN."""
    places = survey.references.positions
    regions = [(np.ones(len(coarse), np.bool_), np.ones(len(places), np.bool_))]  # of users, and their references
    if left_out is not None:
        regions = [(left_out.own == one, left_out.witnesses != one) for one in np.unique(left_out.own)]
    rivals: dict[str, _Floats] = {} if condition.gnss is None else {GNSS: coarse}
    for users, kept in regions:
        near = {feature: d[np.ix_(users, survey.rows[kept])] for feature, d in distances.items()}
        fix = None if condition.gnss is None else coarse[users]
        n = min(condition.neighbours, int(kept.sum()))
        for name, points in knn_baselines(near, places[kept], fix, condition.gnss or 0.0, n).items():
            rivals.setdefault(f"{KNN} {name}", np.empty_like(coarse))[users] = points
    return rivals
