"""Reports what a Mateformer reached on held-out cells, as JSON, as Markdown and as a CDF plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from models.mateformer.conditions import AXES, GNSS_1M, HEADLINE, STREET_1M, Condition, select_possible
from models.mateformer.evaluation import BOUND, GNSS, MATEFORMER, CellErrors
from models.mateformer.measurement import LOCATIONS
from models.mateformer.observations import CLEAN_SNR_DB
from models.mateformer.pooling import BEST_KNN, PARTS, pool_errors
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.summary import OUTLIER_M, summarise
from models.pipeline.tables import markdown_table

JSON_FILE, TABLE_FILE, PLOT_FILE = "evaluation.json", "evaluation.md", "evaluation.png"
FIRST_PASS = f"{MATEFORMER}, pass 1"  # of several


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
        *_acceptance_table({group: one for group, one in summary["splits"].items() if group != LOCATIONS}),
        _describe_sites(summary["splits"]),
        "Errors in metres: mean / median / p90. Unless stated otherwise: at most"
        f" {recipe.cells.references} references per cell of 60 m x 60 m,"
        f" {recipe.retrieval.neighbourhood_size} neighbours, fused retrieval, tiles of"
        f" {recipe.retrieval.tile_pitch:g} m, clean CSI. GNSS errors are 1 sigma per axis. The best kNN has the same"
        " CSI and the same fix. It is chosen per cell and condition with hindsight, over every feature, k, set of"
        " candidates and weight of the fix."
        f"{_describe_bound(summary['splits'])} Ellipses are as predicted, without the"
        f" calibration of the cell{_describe_factor(recipe)}: the share of users inside the 95 % ellipse, and its"
        " median area.",
    ]
    described, axes = summary["conditions"], {"headline": HEADLINE, **AXES}
    parts += [_cells_table(split, content, headline, described) for split, content in summary["splits"].items()]
    for title, axis in axes.items():
        rows = [(one.label, names[one.complete_from(recipe)]) for one in axis if one.complete_from(recipe) in names]
        if axis is HEADLINE or any(name not in headline for _, name in rows):
            parts += [
                _axis_table(f"{title}: {split}", measured, content)
                for split, content in summary["splits"].items()
                if (measured := [(label, name) for label, name in rows if name in content["all"]])
            ]
    return "\n\n".join(parts) + "\n"


def _describe_factor(recipe: MateformerRecipe) -> str:
    return "" if recipe.ellipse == 1 else f", all covariances times {recipe.ellipse:g}, chosen on the validation cells"


def _describe_sites(splits: dict[str, Any]) -> str:
    unknown = "`-`: not measured, or no such user."
    if set(splits) == {LOCATIONS}:
        return f"{unknown} Whether a measured user sees the base station is not known, so there is no bound either."
    return (
        "The base stations of cells with `-nlos` were sited out of sight of most of the street, the others in sight of"
        f" most. {unknown} Designs at other carriers: cells that were traced there."
    )


def _describe_bound(splits: dict[str, Any]) -> str:
    if set(splits) == {LOCATIONS}:
        return ""
    return (
        " The bound is the mean of the users' position error bounds (1 sigma) at the SNR of the condition, or"
        f" {CLEAN_SNR_DB:g} dB where it is clean."
    )


def _acceptance_table(groups: dict[str, Any]) -> list[str]:
    """The criteria are about traced cells: no table without any."""
    if not groups:
        return []

    def measured(result: dict[str, Any]) -> str:
        if result["measured"] is None:
            return "-"
        return f"{result['measured']:.3f}" + ("" if result["met"] else " (missed)")

    rows = []
    for label, one in next(iter(groups.values()))["acceptance"].items():
        limits = f"{one['most']:g}" if not one["least"] else f"{one['least']:g} to {one['most']:g}"
        rows.append([label, limits, *(measured(content["acceptance"][label]) for content in groups.values())])
    return [markdown_table(["acceptance", "at most", *groups], rows)]


def _cells_table(split: str, content: dict[str, Any], headline: list[str], described: dict[str, Any]) -> str:
    sighted = _knows_sight(content)
    columns = [
        (MATEFORMER, name, f"Mateformer, {described[name]['label']}") for name in headline if name in content["all"]
    ]
    if GNSS_1M.name in headline:
        columns += [(BEST_KNN, GNSS_1M.name, "best kNN, GNSS 1 m"), (GNSS, GNSS_1M.name, "GNSS 1 m")]
    columns += [
        (BOUND, name, f"bound, {described[name]['label']}")
        for name in (GNSS_1M.name, STREET_1M.name)
        if sighted and name in headline
    ]

    def figures(conditions: dict[str, Any], part: str | None = None) -> list[str]:
        chosen = [conditions.get(name, {}).get(method, {}) for method, name, _ in columns]
        return [_format(statistics.get(part, {}) if part else statistics) for statistics in chosen]

    rows = [
        [cell, f"{one['users']}", *([_share(one["line_of_sight"])] if sighted else []), *figures(one["conditions"])]
        for cell, one in content["cells"].items()
    ]
    users = sum(one["users"] for one in content["cells"].values())
    share = ["LOS share"] if sighted else []
    rows.append(["**all**", f"{users}", *("" for _ in share), *figures(content["all"])])
    if sighted:
        rows += [[label, "", "", *figures(content["all"], part)] for part, label in PARTS.items()]
    return markdown_table([split, "users", *share, *(label for *_, label in columns)], rows)


def _knows_sight(content: dict[str, Any]) -> bool:
    """Whether it is known which users are in sight, and so their bound: of traced cells, not of measured ones."""
    return any(one["line_of_sight"] is not None for one in content["cells"].values())


def _axis_table(title: str, named: list[tuple[str, str]], content: dict[str, Any]) -> str:
    users, cells, sighted = content["all"], len(content["cells"]), _knows_sight(content)
    passes = [FIRST_PASS] if any(FIRST_PASS in users[name] for _, name in named) else []
    rows = []
    for label, name in named:
        methods = users[name]
        own = methods[MATEFORMER]
        figures = [_format(methods.get(method, {})) for method in (*passes, BEST_KNN, GNSS)]
        bound = methods.get(BOUND, {}).get("mean_m")
        rows.append(
            [
                label if own["cells"] == cells else f"{label} ({own['cells']} of {cells} cells)",
                _format(own),
                *(_metres(own[part]["mean_m"]) if own[part] else "-" for part in ("los", "nlos") if sighted),
                f"{100 * own['outlier_rate']:.1f} %",
                *figures,
                *(["-" if bound is None else _metres(bound)] if sighted else []),
                f"{100 * own['coverage']:.1f} %, {own['ellipse_m2']:.2g} m²" if "coverage" in own else "-",
            ]
        )
    first = ["its first pass"] * len(passes)
    sight, bound_head = (["LOS users", "NLOS users"], ["bound"]) if sighted else ([], [])
    head = [title, "Mateformer", *sight, f"beyond {OUTLIER_M:g} m", *first, "best kNN", "GNSS", *bound_head]
    return markdown_table([*head, "95 % ellipse"], rows)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _format(statistics: dict[str, float]) -> str:
    return " / ".join(_metres(statistics[key]) for key in ("mean_m", "median_m", "p90_m")) if statistics else "-"


def _metres(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


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
