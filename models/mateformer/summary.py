"""Summarises errors: per cell, pooled over cells, in and out of line of sight, and the acceptance criteria."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.mateformer.acceptance import check_acceptance
from models.mateformer.conditions import HEADLINE, Condition
from models.mateformer.evaluation import CHI_SQUARED_95, GNSS, KNN, MATEFORMER, CellErrors, Ellipses
from models.mateformer.pooling import BEST_KNN, PARTS, Part, best_knn, pool_ellipses, pool_errors, select_measured
from models.mateformer.recipe import MateformerRecipe

OUTLIER_M = 3.0  # a larger error is an outlier: another place, not noise


def summarise(
    results: dict[str, list[CellErrors]], conditions: list[Condition], recipe: MateformerRecipe
) -> dict[str, Any]:
    """JSON-ready: the conditions, and per group of cells the acceptance criteria, every cell, and all users."""
    return {
        "conditions": {condition.name: _describe(condition) for condition in conditions},
        "splits": {
            group: {
                "acceptance": check_acceptance(cells, recipe),
                "cells": {cell.cell: _summarise_cell(cell, measured) for cell in cells},
                "all": {condition.name: _summarise_users(cells, condition) for condition in measured},
            }
            for group, cells in results.items()
            if (measured := [one for one in conditions if select_measured(cells, one)])
        },
    }


def flatten_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The headline figures for `artifact.json`, as a flat dict: ``test/mateformer/gnss_1m/mean_m`` and so on."""
    flat: dict[str, float] = {}
    for group, content in summary["splits"].items():
        for condition in HEADLINE:
            everyone = content["all"].get(condition.name, {})
            for method in (MATEFORMER, BEST_KNN, GNSS):
                for key in ("mean_m", "median_m", "p90_m"):
                    if method in everyone:
                        flat[f"{group}/{method}/{condition.name}/{key}"] = everyone[method][key]
    return flat


def _describe(condition: Condition) -> dict[str, Any]:
    survey, users = condition.sto
    return {
        "label": condition.label,
        "design": condition.design,
        "gnss_m": condition.gnss,
        "fixes": condition.fixes,
        "mode": condition.mode,
        "passes": condition.passes,
        "tile_pitch_m": condition.pitch,
        "radio": condition.radio.model_dump(),
        "surveyed": condition.surveyed,
        "alike": condition.alike,
        "stated_sto_s": {"survey": survey, "users": users},
        "references": condition.references,
        "layout": condition.layout,
        "label_sigma_m": condition.label_sigma,
        "region_m": condition.region,
        "streets": None if condition.streets is None else [str(one) for one in condition.streets],
        "neighbours": condition.neighbours,
    }


def _summarise_cell(cell: CellErrors, conditions: list[Condition]) -> dict[str, Any]:
    one = next(iter(cell.located.values()))
    described: dict[str, Any] = {
        "users": len(one.errors[MATEFORMER]),
        "unreached": cell.unreached,
        "line_of_sight": None if one.line_of_sight is None else round(float(one.line_of_sight.mean()), 3),
        "conditions": {},
    }
    for condition in conditions:
        if condition not in cell.located:
            continue
        errors = cell.located[condition].errors
        statistics: dict[str, Any] = {name: _statistics(e) for name, e in errors.items() if not name.startswith(KNN)}
        statistics[MATEFORMER] |= _judge(cell.located[condition].ellipses)
        if best := best_knn(errors):
            statistics[BEST_KNN] = {**_statistics(errors[best]), "which": best}
            statistics["every knn"] = {
                name: round(float(e.mean()), 4) for name, e in errors.items() if name.startswith(KNN)
            }
        described["conditions"][condition.name] = statistics
    return described


def _summarise_users(cells: list[CellErrors], condition: Condition) -> dict[str, Any]:
    measured = select_measured(cells, condition)
    methods = [name for name in measured[0].errors if not name.startswith(KNN)]
    statistics: dict[str, Any] = {}
    for method in (*methods, BEST_KNN):
        if pool_errors(cells, condition, method) is not None:
            parts: dict[Part, dict[str, float]] = {
                part: _summarise_part(cells, condition, method, part) for part in ("all", *PARTS)
            }
            statistics[method] = {**parts.pop("all"), **parts}
    statistics[MATEFORMER]["cells"] = len(measured)
    return statistics


def _summarise_part(cells: list[CellErrors], condition: Condition, method: str, part: Part) -> dict[str, float]:
    errors, ellipses = pool_errors(cells, condition, method, part), pool_ellipses(cells, condition, part)
    if errors is None:
        return {}
    return _statistics(errors) | (_judge(ellipses) if method == MATEFORMER and ellipses is not None else {})


def _statistics(errors: NDArray[np.float32]) -> dict[str, float]:
    if not len(errors):
        return {}
    return {
        "mean_m": round(float(errors.mean()), 4),
        "median_m": round(float(np.median(errors)), 4),
        "p90_m": round(float(np.percentile(errors, 90)), 4),
        "outlier_rate": round(float((errors > OUTLIER_M).mean()), 4),
    }


def _judge(ellipses: Ellipses) -> dict[str, float]:
    """How many users stand inside their predicted 95 % ellipse, and how large the ellipse is."""
    if not len(ellipses.area) or np.isnan(ellipses.area).any():
        return {}
    return {
        "coverage": round(float((ellipses.squared <= CHI_SQUARED_95).mean()), 4),
        "ellipse_m2": round(float(np.median(ellipses.area)), 4),
        # What all covariances would have to be multiplied by for 95 % of the users inside.
        "factor_for_95": round(float(np.quantile(ellipses.squared, 0.95)) / CHI_SQUARED_95, 4),
    }
