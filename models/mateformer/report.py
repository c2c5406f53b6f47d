"""The report: what the model reaches on cells that it never saw, as JSON, as Markdown and as a CDF plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.mateformer.conditions import GNSS_1M, HEADLINE, Condition, possible
from models.mateformer.data import load_cells
from models.mateformer.evaluation import GNSS, MATEFORMER, CellErrors, locate_cell
from models.mateformer.locators import Locate
from models.mateformer.summary import BEST_KNN, pooled, summarise
from models.pipeline.recipe import Recipe
from models.pipeline.tables import markdown

JSON_FILE, TABLE_FILE, PLOT_FILE = "evaluation.json", "evaluation.md", "evaluation.png"


def evaluate(
    locate: Locate,
    recipe: Recipe,
    paths: Path,
    splits: Iterable[str],
    conditions: Iterable[Condition],
    users: int | None = None,
) -> dict[str, list[CellErrors]]:
    """Every held-out user of the splits' cells, or the first ``users`` a cell, under each condition that is possible.

    Raises `FileNotFoundError` for a cell that is not traced yet, before anybody is located.
    """
    conditions = possible(conditions, recipe)
    cells = {split: load_cells(getattr(recipe.cells, split), paths, recipe.radio) for split in splits}
    held, passes = recipe.cells.references, sum(condition.passes or 0 for condition in conditions)
    total = sum(len(cell.positions[held:][:users]) for some in cells.values() for cell in some) * passes
    with tqdm(total=total, unit="user", unit_scale=True, mininterval=2) as bar:
        return {
            split: [
                locate_cell(locate, cell, conditions, held, recipe.radio.bandwidth, users, bar.update) for cell in some
            ]
            for split, some in cells.items()
        }


def write_report(
    results: dict[str, list[CellErrors]], conditions: Iterable[Condition], recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Writes JSON, Markdown and the plot of what `evaluate` measured into the folder; returns what the JSON says."""
    conditions = possible(conditions, recipe)
    summary = summarise(results, conditions, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    (folder / TABLE_FILE).write_text(markdown(recipe, conditions, summary))
    _plot_cdf(results, recipe, folder / PLOT_FILE)
    return summary


def _plot_cdf(results: dict[str, list[CellErrors]], recipe: Recipe, path: Path) -> None:
    from matplotlib.figure import Figure

    # Thinner and thinner: where good and bad fixes do equally well, all of them are still seen.
    curves = [
        (MATEFORMER, condition, "-", width) for condition, width in zip(HEADLINE, (4.5, 2.7, 1.2, 1.5), strict=True)
    ]
    curves += [(BEST_KNN, GNSS_1M, "--", 1.5), (GNSS, GNSS_1M, ":", 1.5)]
    figure = Figure(figsize=(6 * len(results), 4.5), layout="constrained")
    for axes, (split, cells) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        for who, condition, style, width in curves:
            errors = pooled(cells, condition.by(recipe), who)
            if errors is None:
                continue
            share = np.arange(1, len(errors) + 1) / len(errors)
            name = condition.label if who == GNSS else f"{who}, {condition.label}"
            axes.plot(np.sort(errors), share, style, linewidth=width, label=f"{name}: mean {errors.mean():.2f} m")
        axes.set(title=f"{split} cells", xlabel="error [m]", ylabel="share of users", xlim=(0, 2), ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
