"""The report's Markdown: the bars first, then every cell under the headline conditions, then an axis at a time."""

from __future__ import annotations

from typing import Any

from models.mateformer.conditions import AXES, GNSS_1M, HEADLINE, Condition
from models.mateformer.evaluation import GNSS, MATEFORMER
from models.mateformer.summary import BEST_KNN, FAR_M
from models.pipeline.recipe import Recipe

FIRST_PASS = f"{MATEFORMER}, pass 1"  # of several


def markdown(recipe: Recipe, conditions: list[Condition], summary: dict[str, Any]) -> str:
    """Tables of a summary of these conditions."""
    names = {condition: condition.name for condition in conditions}  # equal ones share the first one's figures
    headline = [names[one.by(recipe)] for one in HEADLINE if one.by(recipe) in names]
    parts = [
        _bars(summary["splits"]),
        f"Errors in metres: mean / median / p90. Where nothing else is said, {recipe.cells.references} references"
        f" a cell of 60 m x 60 m, {recipe.retrieval.neighbourhood_size} neighbours, fused retrieval, tiles of"
        f" {recipe.retrieval.tile_pitch:g} m, clean CSI; GNSS errors are 1 sigma on each axis. The best kNN sees the"
        " same CSI and the same fix, and is chosen a cell and a condition with hindsight: over every feature, k, set of"
        " candidates and share of the fix in its answer.",
    ]
    described, axes = summary["conditions"], {"headline": HEADLINE, **AXES}
    parts += [_cells(split, content, headline, described) for split, content in summary["splits"].items()]
    for title, axis in axes.items():
        rows = [(one.label, names[one.by(recipe)]) for one in axis if one.by(recipe) in names]
        if axis is HEADLINE or any(name not in headline for _, name in rows):
            parts += [_axis(f"{title}: {split}", rows, content["all"]) for split, content in summary["splits"].items()]
    return "\n\n".join(parts) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _bars(splits: dict[str, Any]) -> str:
    labels = dict.fromkeys(label for content in splits.values() for label in content["bars"])

    def ratio(bar: dict[str, float]) -> str:
        return f"{bar['ratio']:.2f}" + ("" if bar["ratio"] <= bar["most"] else " (missed)")

    rows = []
    for label in labels:
        bars = [content["bars"][label] for content in splits.values()]
        rows.append([label, f"{bars[0]['most']:g}", *map(ratio, bars)])
    return table(["mean error as a ratio", "at most", *splits], rows)


def _cells(split: str, content: dict[str, Any], headline: list[str], described: dict[str, Any]) -> str:
    columns = [(MATEFORMER, name, f"Mateformer, {described[name]['label']}") for name in headline]
    if GNSS_1M.name in headline:
        columns += [(BEST_KNN, GNSS_1M.name, "best kNN, GNSS 1 m"), (GNSS, GNSS_1M.name, "GNSS 1 m")]

    def figures(conditions: dict[str, Any], part: str | None = None) -> list[str]:
        chosen = [conditions[name][who] for who, name, _ in columns]
        return [_three(statistics[part] if part else statistics) for statistics in chosen]

    rows = [
        [cell, f"{one['users']}", f"{one['line_of_sight']:.2f}", *figures(one["conditions"])]
        for cell, one in content["cells"].items()
    ]
    users = sum(one["users"] for one in content["cells"].values())
    rows.append(["**all**", f"{users}", "", *figures(content["all"])])
    rows += [[f"{part.upper()} users", "", "", *figures(content["all"], part)] for part in ("los", "nlos")]
    return table([split, "users", "LOS share", *(label for *_, label in columns)], rows)


def _axis(title: str, named: list[tuple[str, str]], everyone: dict[str, Any]) -> str:
    passes = [FIRST_PASS] if any(FIRST_PASS in everyone[name] for _, name in named) else []
    rows = []
    for label, name in named:
        by = everyone[name]
        figures = [_three(by.get(who, {})) for who in (*passes, BEST_KNN, GNSS)]
        rows.append([label, _three(by[MATEFORMER]), f"{100 * by[MATEFORMER]['far']:.1f} %", *figures])
    first = ["its first pass"] * len(passes)
    return table([title, "Mateformer", f"beyond {FAR_M:g} m", *first, "best kNN", "GNSS"], rows)


def _three(statistics: dict[str, float]) -> str:
    return " / ".join(f"{statistics[key]:.2f}" for key in ("mean_m", "median_m", "p90_m")) if statistics else "-"
