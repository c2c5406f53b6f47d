"""The report of a run: what the model reaches on cells that it never saw, beside its rivals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.mateformer import Mateformer
from models.training.corpus import load_cells
from models.training.evaluation import CellErrors, evaluate, torch_locate
from models.training.recipe import Recipe

REPORT_FILE, TABLE_FILE, PLOT_FILE = "report.json", "report.md", "report.png"
EVALUATION_SEED = 2026


def write_report(
    model: Mateformer,
    recipe: Recipe,
    paths: Path,
    folder: Path,
    device: torch.device,
    with_test: bool = True,
) -> str:
    """Evaluates validation cells (and test cells) and writes JSON, Markdown and a CDF plot. Returns the Markdown."""
    locate = torch_locate(model, device)
    results: dict[str, list[CellErrors]] = {}
    for split, ranges in (("validation", recipe.cells.validation), ("test", recipe.cells.test)):
        if split == "validation" or with_test:
            cells = load_cells(ranges, paths, recipe.radio)
            results[split] = [evaluate(locate, cell, recipe, EVALUATION_SEED) for cell in cells]
    summary = {split: _summarise(cells) for split, cells in results.items()}
    (folder / REPORT_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    table = _markdown(recipe, summary)
    (folder / TABLE_FILE).write_text(table)
    _plot_cdf(results, folder / PLOT_FILE)
    return table


def _statistics(errors: NDArray[np.float32]) -> dict[str, float]:
    if not len(errors):
        return {}
    return {
        "mean_m": round(float(errors.mean()), 4),
        "median_m": round(float(np.median(errors)), 4),
        "p90_m": round(float(np.percentile(errors, 90)), 4),
    }


def _pooled(cells: list[CellErrors], name: str) -> NDArray[np.float32]:
    return np.concatenate([cell.errors[cell.best_knn if name == "best knn" else name] for cell in cells])


def _summarise(cells: list[CellErrors]) -> dict[str, Any]:
    models = [name for name in cells[0].errors if not name.startswith("knn")]
    los = np.concatenate([cell.line_of_sight for cell in cells])
    return {
        "cells": {
            cell.cell: {
                "users": len(cell.line_of_sight),
                "references": cell.references,
                "unreached": cell.unreached,
                "line_of_sight": round(float(cell.line_of_sight.mean()), 3),
                "best_knn": cell.best_knn,
                **{name: _statistics(cell.errors[name]) for name in cell.errors},
            }
            for cell in cells
        },
        "all": {
            name: {
                **_statistics(_pooled(cells, name)),
                "los": _statistics(_pooled(cells, name)[los]),
                "nlos": _statistics(_pooled(cells, name)[~los]),
            }
            for name in [*models, "best knn"]
        },
    }


def _markdown(recipe: Recipe, summary: dict[str, Any]) -> str:
    lines = [
        f"GNSS error {recipe.cells.coarse_sigma:g} m a axis (1 sigma), {recipe.cells.references} references a cell,"
        f" {recipe.retrieval.neighbourhood_size} neighbours, located {recipe.retrieval.passes} times."
        " Mean / median / p90 error in metres; the best kNN is chosen a cell, with hindsight."
    ]

    def cell_of(statistics: dict[str, float]) -> str:
        return " / ".join(f"{statistics[key]:.2f}" for key in ("mean_m", "median_m", "p90_m")) if statistics else "-"

    for split, content in summary.items():
        lines += ["", f"| {split} | LOS share | Mateformer | best kNN | GNSS |", "|---|---|---|---|---|"]
        for name, cell in content["cells"].items():
            row = [cell_of(cell[who]) for who in ("mateformer", cell["best_knn"], "gnss")]
            lines.append(f"| {name} | {cell['line_of_sight']:.2f} | {' | '.join(row)} |")
        for label, key in (("**all**", None), ("LOS users", "los"), ("NLOS users", "nlos")):
            everyone = [content["all"][who] for who in ("mateformer", "best knn", "gnss")]
            row = [cell_of(statistics if key is None else statistics[key]) for statistics in everyone]
            lines.append(f"| {label} | | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _plot_cdf(results: dict[str, list[CellErrors]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(results), 4), layout="constrained")
    for axes, (split, cells) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        for name in ("mateformer", "best knn", "gnss"):
            errors = np.sort(_pooled(cells, name))
            axes.plot(
                errors,
                np.arange(1, len(errors) + 1) / len(errors),
                label=f"{name}, mean {errors.mean():.2f} m",
            )
        axes.set(title=f"{split} cells", xlabel="error [m]", ylabel="share of users", xlim=(0, 3), ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
