"""From everybody's errors to figures: pooled, a cell, in and out of line of sight, and the bars of acceptance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.mateformer.conditions import GNSS_1M, GNSS_10M, HEADLINE, NO_GNSS, STREET_1M, Condition
from models.mateformer.evaluation import GNSS, KNN, MATEFORMER, CellErrors, best_knn
from models.pipeline.recipe import Recipe

BEST_KNN = "best knn"
FAR_M = 3.0  # an error beyond it is no longer noise but another place


class Bar(NamedTuple):
    """A ratio of two mean errors, of someone under a condition each, that must not exceed ``most``."""

    label: str
    measured: tuple[str, Condition]
    against: tuple[str, Condition]
    most: float


BARS = (
    Bar("GNSS 1 m, against the best kNN", (MATEFORMER, GNSS_1M), (BEST_KNN, GNSS_1M), 0.5),
    Bar("GNSS 10 m, against GNSS 1 m", (MATEFORMER, GNSS_10M), (MATEFORMER, GNSS_1M), 1.15),
    Bar("no GNSS, against GNSS 1 m", (MATEFORMER, NO_GNSS), (MATEFORMER, GNSS_1M), 1.15),
    Bar("street radio, against clean CSI", (MATEFORMER, STREET_1M), (MATEFORMER, GNSS_1M), 1.5),
)


def pooled(cells: list[CellErrors], condition: Condition, who: str) -> NDArray[np.float32] | None:
    """Errors in metres of the users of all cells; "best knn" is chosen a cell. None for what was not measured."""
    everyone = []
    for errors in (cell.errors.get(condition, {}) for cell in cells):
        name = best_knn(errors) if who == BEST_KNN else who
        if name not in errors:
            return None
        everyone.append(errors[name])
    return np.concatenate(everyone)


def summarise(results: dict[str, list[CellErrors]], conditions: list[Condition], recipe: Recipe) -> dict[str, Any]:
    """JSON-ready: what was measured, and a split the bars, every cell, and all its users together."""
    return {
        "conditions": {condition.name: _described(condition) for condition in conditions},
        "splits": {
            split: {
                "bars": _bars(cells, recipe),
                "cells": {cell.cell: _cell(cell, conditions) for cell in cells},
                "all": {condition.name: _everyone(cells, condition) for condition in conditions},
            }
            for split, cells in results.items()
        },
    }


def metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The headline figures for `artifact.json`, flat: ``test/mateformer/gnss_1m/mean_m`` and the like."""
    flat: dict[str, float] = {}
    for split, content in summary["splits"].items():
        for condition in HEADLINE:
            everyone = content["all"].get(condition.name, {})
            for who in (MATEFORMER, BEST_KNN, GNSS):
                for key in ("mean_m", "median_m", "p90_m"):
                    if who in everyone:
                        flat[f"{split}/{who}/{condition.name}/{key}"] = everyone[who][key]
    return flat


def _described(condition: Condition) -> dict[str, Any]:
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


def _bars(cells: list[CellErrors], recipe: Recipe) -> dict[str, dict[str, float]]:
    bars = {}
    for bar in BARS:
        (who, condition), (whom, reference) = bar.measured, bar.against
        measured, against = pooled(cells, condition.by(recipe), who), pooled(cells, reference.by(recipe), whom)
        if measured is not None and against is not None:
            bars[bar.label] = {"ratio": round(float(measured.mean() / against.mean()), 3), "most": bar.most}
    return bars


def _cell(cell: CellErrors, conditions: list[Condition]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "users": len(cell.line_of_sight),
        "unreached": cell.unreached,
        "line_of_sight": round(float(cell.line_of_sight.mean()), 3),
        "conditions": {},
    }
    for condition in conditions:
        errors = cell.errors[condition]
        statistics: dict[str, Any] = {who: _statistics(e) for who, e in errors.items() if not who.startswith(KNN)}
        if best := best_knn(errors):
            statistics[BEST_KNN] = {**_statistics(errors[best]), "which": best}
            statistics["every knn"] = {
                who: round(float(e.mean()), 4) for who, e in errors.items() if who.startswith(KNN)
            }
        described["conditions"][condition.name] = statistics
    return described


def _everyone(cells: list[CellErrors], condition: Condition) -> dict[str, Any]:
    in_sight = np.concatenate([cell.line_of_sight for cell in cells])
    who_else = [who for who in cells[0].errors[condition] if not who.startswith(KNN)]
    statistics = {}
    for who in (*who_else, BEST_KNN):
        errors = pooled(cells, condition, who)
        if errors is not None:
            statistics[who] = {
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
        "far": round(float((errors > FAR_M).mean()), 4),
    }
