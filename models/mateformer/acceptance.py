"""The acceptance criteria of a Mateformer: what held-out cells must show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from models.mateformer.conditions import (
    ALIKE_1M,
    DENSITIES,
    DESIGNS_1M,
    FIXES,
    GNSS_1M,
    HEADLINE,
    STREET_1M,
    STREET_NO_GNSS,
    Condition,
)
from models.mateformer.evaluation import CHI_SQUARED_95, MATEFORMER, CellErrors
from models.mateformer.pooling import BEST_KNN, PARTS, Part, pool_ellipses, pool_errors
from models.mateformer.recipe import MateformerRecipe

ACCEPTED_DESIGNS = ("8x8", "4x4", "64x1", "8x1")

# Takes cells and a function that completes conditions; None: not measured, or there is no such user.
Measure = Callable[[list[CellErrors], Callable[[Condition], Condition]], float | None]


class AcceptanceCriterion(NamedTuple):
    """The measured figure must lie between ``least`` and ``most``."""

    label: str
    measure: Measure
    most: float
    least: float = 0.0


def _mean(condition: Condition, part: Part = "all") -> Measure:
    return _worst([condition], part)


def _worst(conditions: Iterable[Condition], part: Part = "all") -> Measure:
    """The largest of the mean errors."""

    def measure(cells: list[CellErrors], complete: Callable[[Condition], Condition]) -> float | None:
        pooled = [pool_errors(cells, complete(one), MATEFORMER, part) for one in conditions]
        means = [float(errors.mean()) for errors in pooled if errors is not None and len(errors)]
        return max(means) if len(means) == len(pooled) else None

    return measure


def _against_knn(condition: Condition, part: Part = "all") -> Measure:
    def measure(cells: list[CellErrors], complete: Callable[[Condition], Condition]) -> float | None:
        own, rival = (pool_errors(cells, complete(condition), who, part) for who in (MATEFORMER, BEST_KNN))
        if own is None or rival is None or not len(own):
            return None
        return float(own.mean() / rival.mean())

    return measure


def _coverage(condition: Condition) -> Measure:
    def measure(cells: list[CellErrors], complete: Callable[[Condition], Condition]) -> float | None:
        ellipses = pool_ellipses(cells, complete(condition))
        return None if ellipses is None else float((ellipses.squared <= CHI_SQUARED_95).mean())

    return measure


_sparse = next(one for one in DENSITIES if one.references == 250)

ACCEPTANCE_CRITERIA = (
    AcceptanceCriterion(
        f"(a) {PARTS['all_los']}: mean error in m, the worst of GNSS 1 to 50 m and none", _worst(FIXES, "all_los"), 0.06
    ),
    AcceptanceCriterion("(a) NLOS users, GNSS 1 m: ratio to the best kNN", _against_knn(GNSS_1M, "nlos"), 0.55),
    AcceptanceCriterion("(b) street radio, GNSS 1 m: mean error in m", _mean(STREET_1M), 0.45),
    AcceptanceCriterion("(b) street radio, no GNSS: mean error in m", _mean(STREET_NO_GNSS), 0.7),
    AcceptanceCriterion("(b) clocked survey, street users, GNSS 1 m: mean error in m", _mean(ALIKE_1M), 0.5),
    *(
        AcceptanceCriterion(f"(c) {one.label}: ratio to the best kNN", _against_knn(one), 0.6)
        for one in DESIGNS_1M
        if one.design in ACCEPTED_DESIGNS
    ),
    AcceptanceCriterion("(d) 250 references a cell: mean error in m", _mean(_sparse), 0.4),
    *(
        AcceptanceCriterion(f"(f) {one.label}: share inside the predicted 95 % ellipse", _coverage(one), 0.99, 0.9)
        for one in (*HEADLINE, STREET_NO_GNSS, ALIKE_1M)
    ),
)


def check_acceptance(cells: list[CellErrors], recipe: MateformerRecipe) -> dict[str, dict[str, Any]]:
    """By label: the measured figure (None if not measured), its limits, and whether it is met."""
    checked = {}
    for label, measure, most, least in ACCEPTANCE_CRITERIA:
        measured = measure(cells, lambda condition: condition.complete_from(recipe))
        figure = None if measured is None else round(measured, 3)
        met = None if figure is None else least <= figure <= most
        checked[label] = {"measured": figure, "least": least, "most": most, "met": met}
    return checked
