"""Summarises errors: per cell, pooled over cells, in and out of line of sight, and the acceptance criteria."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.mateformer.conditions import GNSS_1M, GNSS_10M, HEADLINE, NO_GNSS, STREET_1M, Condition
from models.mateformer.evaluation import GNSS, KNN, MATEFORMER, CellErrors, best_knn
from models.mateformer.recipe import MateformerRecipe

BEST_KNN = "best knn"
OUTLIER_M = 3.0  # a larger error is an outlier: another place, not noise


class AcceptanceCriterion(NamedTuple):
    """The ratio of two mean errors, each of a method under a condition, must not exceed ``limit``."""

    label: str
    measured: tuple[str, Condition]
    against: tuple[str, Condition]
    limit: float


ACCEPTANCE_CRITERIA = (
    AcceptanceCriterion("GNSS 1 m, against the best kNN", (MATEFORMER, GNSS_1M), (BEST_KNN, GNSS_1M), 0.5),
    AcceptanceCriterion("GNSS 10 m, against GNSS 1 m", (MATEFORMER, GNSS_10M), (MATEFORMER, GNSS_1M), 1.15),
    AcceptanceCriterion("no GNSS, against GNSS 1 m", (MATEFORMER, NO_GNSS), (MATEFORMER, GNSS_1M), 1.15),
    AcceptanceCriterion("street radio, against clean CSI", (MATEFORMER, STREET_1M), (MATEFORMER, GNSS_1M), 1.5),
)


def pool_errors(cells: list[CellErrors], condition: Condition, method: str) -> NDArray[np.float32] | None:
    """The errors in metres of all cells' users, or None if not measured. "best knn" is chosen per cell."""
    everyone = []
    for errors in (cell.errors.get(condition, {}) for cell in cells):
        name = best_knn(errors) if method == BEST_KNN else method
        if name not in errors:
            return None
        everyone.append(errors[name])
    return np.concatenate(everyone)


def summarise(
    results: dict[str, list[CellErrors]], conditions: list[Condition], recipe: MateformerRecipe
) -> dict[str, Any]:
    """JSON-ready: the conditions, and per split the acceptance criteria, every cell, and all users together."""
    return {
        "conditions": {condition.name: _describe(condition) for condition in conditions},
        "splits": {
            split: {
                "acceptance": _check_acceptance(cells, recipe),
                "cells": {cell.cell: _summarise_cell(cell, conditions) for cell in cells},
                "all": {condition.name: _summarise_users(cells, condition) for condition in conditions},
            }
            for split, cells in results.items()
        },
    }


def flatten_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The headline figures for `artifact.json`, as a flat dict: ``test/mateformer/gnss_1m/mean_m`` and so on."""
    flat: dict[str, float] = {}
    for split, content in summary["splits"].items():
        for condition in HEADLINE:
            everyone = content["all"].get(condition.name, {})
            for method in (MATEFORMER, BEST_KNN, GNSS):
                for key in ("mean_m", "median_m", "p90_m"):
                    if method in everyone:
                        flat[f"{split}/{method}/{condition.name}/{key}"] = everyone[method][key]
    return flat


def _describe(condition: Condition) -> dict[str, Any]:
    return {
        "label": condition.label,
        "gnss_m": condition.gnss,
        "mode": condition.mode,
        "passes": condition.passes,
        "tile_pitch_m": condition.pitch,
        "radio": condition.radio.model_dump(),
        "surveyed": condition.surveyed,
        "references": condition.references,
        "neighbours": condition.neighbours,
    }


def _check_acceptance(cells: list[CellErrors], recipe: MateformerRecipe) -> dict[str, dict[str, float]]:
    ratios = {}
    for criterion in ACCEPTANCE_CRITERIA:
        measured, against = (
            pool_errors(cells, condition.complete_from(recipe), method)
            for method, condition in (criterion.measured, criterion.against)
        )
        if measured is not None and against is not None:
            ratio = round(float(measured.mean() / against.mean()), 3)
            ratios[criterion.label] = {"ratio": ratio, "limit": criterion.limit}
    return ratios


def _summarise_cell(cell: CellErrors, conditions: list[Condition]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "users": len(cell.line_of_sight),
        "unreached": cell.unreached,
        "line_of_sight": round(float(cell.line_of_sight.mean()), 3),
        "conditions": {},
    }
    for condition in conditions:
        errors = cell.errors[condition]
        statistics: dict[str, Any] = {name: _statistics(e) for name, e in errors.items() if not name.startswith(KNN)}
        if best := best_knn(errors):
            statistics[BEST_KNN] = {**_statistics(errors[best]), "which": best}
            statistics["every knn"] = {
                name: round(float(e.mean()), 4) for name, e in errors.items() if name.startswith(KNN)
            }
        described["conditions"][condition.name] = statistics
    return described


def _summarise_users(cells: list[CellErrors], condition: Condition) -> dict[str, Any]:
    in_sight = np.concatenate([cell.line_of_sight for cell in cells])
    methods = [name for name in cells[0].errors[condition] if not name.startswith(KNN)]
    statistics = {}
    for method in (*methods, BEST_KNN):
        errors = pool_errors(cells, condition, method)
        if errors is not None:
            statistics[method] = {
                **_statistics(errors),
                "los": _statistics(errors[in_sight]),
                "nlos": _statistics(errors[~in_sight]),
            }
    return statistics


def _statistics(errors: NDArray[np.float32]) -> dict[str, float]:
    if not len(errors):
        return {}
    return {
        "mean_m": round(float(errors.mean()), 4),
        "median_m": round(float(np.median(errors)), 4),
        "p90_m": round(float(np.percentile(errors, 90)), 4),
        "outlier_rate": round(float((errors > OUTLIER_M).mean()), 4),
    }
