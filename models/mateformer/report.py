"""Measures a Mateformer on held-out cells, and reports the results as JSON, as Markdown and as a CDF plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.mateformer.conditions import AXES, GNSS_1M, HEADLINE, Condition, select_possible
from models.mateformer.evaluation import GNSS, MATEFORMER, CellErrors, locate_cell
from models.mateformer.locators import Locate
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.summary import BEST_KNN, OUTLIER_M, pool_errors, summarise
from models.pipeline.tables import markdown_table
from models.radio.cells import load_cells

JSON_FILE, TABLE_FILE, PLOT_FILE = "evaluation.json", "evaluation.md", "evaluation.png"
FIRST_PASS = f"{MATEFORMER}, pass 1"  # of several


def measure(
    locate: Locate,
    recipe: MateformerRecipe,
    paths: Path,
    splits: Iterable[str],
    conditions: Iterable[Condition],
    users: int | None = None,
) -> dict[str, list[CellErrors]]:
    """Locates the held-out users of the splits' cells, or the first ``users`` of each, under each possible condition.

    Raises `FileNotFoundError` for a cell without a path table, before any user is located.
    """
    conditions = select_possible(conditions, recipe)
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
    results: dict[str, list[CellErrors]], conditions: Iterable[Condition], recipe: MateformerRecipe, folder: Path
) -> dict[str, Any]:
    """Writes the results of `measure` as JSON, Markdown and a plot into the folder. Returns the content of the JSON."""
    conditions = select_possible(conditions, recipe)
    summary = summarise(results, conditions, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    (folder / TABLE_FILE).write_text(write_tables(recipe, conditions, summary))
    _plot_cdf(results, recipe, folder / PLOT_FILE)
    return summary


def write_tables(recipe: MateformerRecipe, conditions: list[Condition], summary: dict[str, Any]) -> str:
    """Markdown: the acceptance criteria, then every cell under the headline conditions, then one table per axis."""
    names = {condition: condition.name for condition in conditions}  # equal conditions share the first one's results
    headline = [names[one.complete_from(recipe)] for one in HEADLINE if one.complete_from(recipe) in names]
    parts = [
        _acceptance_table(summary["splits"]),
        f"Errors in metres: mean / median / p90. Unless stated otherwise: {recipe.cells.references} references per cell"
        f" of 60 m x 60 m, {recipe.retrieval.neighbourhood_size} neighbours, fused retrieval, tiles of"
        f" {recipe.retrieval.tile_pitch:g} m, clean CSI. GNSS errors are 1 sigma per axis. The best kNN has the same"
        " CSI and the same fix. It is chosen per cell and condition with hindsight, over every feature, k, set of"
        " candidates and weight of the fix.",
    ]
    described, axes = summary["conditions"], {"headline": HEADLINE, **AXES}
    parts += [_cells_table(split, content, headline, described) for split, content in summary["splits"].items()]
    for title, axis in axes.items():
        rows = [(one.label, names[one.complete_from(recipe)]) for one in axis if one.complete_from(recipe) in names]
        if axis is HEADLINE or any(name not in headline for _, name in rows):
            parts += [
                _axis_table(f"{title}: {split}", rows, content["all"]) for split, content in summary["splits"].items()
            ]
    return "\n\n".join(parts) + "\n"


def _acceptance_table(splits: dict[str, Any]) -> str:
    labels = dict.fromkeys(label for content in splits.values() for label in content["acceptance"])

    def ratio(result: dict[str, float]) -> str:
        return f"{result['ratio']:.2f}" + ("" if result["ratio"] <= result["limit"] else " (missed)")

    rows = []
    for label in labels:
        results = [content["acceptance"][label] for content in splits.values()]
        rows.append([label, f"{results[0]['limit']:g}", *map(ratio, results)])
    return markdown_table(["mean error as a ratio", "at most", *splits], rows)


def _cells_table(split: str, content: dict[str, Any], headline: list[str], described: dict[str, Any]) -> str:
    columns = [(MATEFORMER, name, f"Mateformer, {described[name]['label']}") for name in headline]
    if GNSS_1M.name in headline:
        columns += [(BEST_KNN, GNSS_1M.name, "best kNN, GNSS 1 m"), (GNSS, GNSS_1M.name, "GNSS 1 m")]

    def figures(conditions: dict[str, Any], part: str | None = None) -> list[str]:
        chosen = [conditions[name][method] for method, name, _ in columns]
        return [_format(statistics[part] if part else statistics) for statistics in chosen]

    rows = [
        [cell, f"{one['users']}", f"{one['line_of_sight']:.2f}", *figures(one["conditions"])]
        for cell, one in content["cells"].items()
    ]
    users = sum(one["users"] for one in content["cells"].values())
    rows.append(["**all**", f"{users}", "", *figures(content["all"])])
    rows += [[f"{part.upper()} users", "", "", *figures(content["all"], part)] for part in ("los", "nlos")]
    return markdown_table([split, "users", "LOS share", *(label for *_, label in columns)], rows)


def _axis_table(title: str, named: list[tuple[str, str]], users: dict[str, Any]) -> str:
    passes = [FIRST_PASS] if any(FIRST_PASS in users[name] for _, name in named) else []
    rows = []
    for label, name in named:
        methods = users[name]
        figures = [_format(methods.get(method, {})) for method in (*passes, BEST_KNN, GNSS)]
        outliers = f"{100 * methods[MATEFORMER]['outlier_rate']:.1f} %"
        rows.append([label, _format(methods[MATEFORMER]), outliers, *figures])
    first = ["its first pass"] * len(passes)
    return markdown_table([title, "Mateformer", f"beyond {OUTLIER_M:g} m", *first, "best kNN", "GNSS"], rows)


def _format(statistics: dict[str, float]) -> str:
    return " / ".join(f"{statistics[key]:.2f}" for key in ("mean_m", "median_m", "p90_m")) if statistics else "-"


def _plot_cdf(results: dict[str, list[CellErrors]], recipe: MateformerRecipe, path: Path) -> None:
    from matplotlib.figure import Figure

    # Each curve is thinner than the one before, so that equal curves stay visible.
    curves = [
        (MATEFORMER, condition, "-", width) for condition, width in zip(HEADLINE, (4.5, 2.7, 1.2, 1.5), strict=True)
    ]
    curves += [(BEST_KNN, GNSS_1M, "--", 1.5), (GNSS, GNSS_1M, ":", 1.5)]
    figure = Figure(figsize=(6 * len(results), 4.5), layout="constrained")
    for axes, (split, cells) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        for method, condition, style, width in curves:
            errors = pool_errors(cells, condition.complete_from(recipe), method)
            if errors is None:
                continue
            share = np.arange(1, len(errors) + 1) / len(errors)
            name = condition.label if method == GNSS else f"{method}, {condition.label}"
            axes.plot(np.sort(errors), share, style, linewidth=width, label=f"{name}: mean {errors.mean():.2f} m")
        axes.set(title=f"{split} cells", xlabel="error [m]", ylabel="share of users", xlim=(0, 2), ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
