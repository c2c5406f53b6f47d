"""A bar chart of the sustained rates."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.campaign import LATENCY_S, Figures
from benchmarks.serving.inprocess import NAMES, best
from benchmarks.serving.report import ModelReport, Report


def draw(report: Report, path: Path) -> None:
    """Draws sustained locations a second: a panel for each model, a bar for each server and kind of tile."""
    from matplotlib.figure import Figure

    bars = [_bars(model) for model in report.models]
    figure = Figure(figsize=(10, 1.4 + 0.34 * max(map(len, bars)) * len(bars)), layout="constrained")
    for axes, model, rates in zip(figure.subplots(len(bars), squeeze=False)[:, 0], report.models, bars, strict=True):
        names = list(rates)
        ours = [name.startswith("Fingerpost") for name in names]
        colours = ["tab:blue" if own else "0.6" for own in ours]
        drawn = axes.barh(names, [max(rate, 1.0) for rate in rates.values()], color=colours)
        axes.bar_label(drawn, [f"{rate:,.0f}" if rate else "none" for rate in rates.values()], padding=3)
        axes.set(xscale="log", xlim=(1, 4 * max(*rates.values(), 1)), title=model.name)
        axes.set_xlabel(f"locations a second at p99 ≤ {1000 * LATENCY_S:g} ms")
        axes.invert_yaxis()
    figure.savefig(path, dpi=100)


def _bars(report: ModelReport) -> dict[str, float]:
    served = {_name(figures): figures.locations_per_s for figures in report.figures}
    for name, batches in report.in_process.items():
        within = best(batches, LATENCY_S)
        served[f"{NAMES[name]}, best batch"] = within.locations_per_s if within else 0.0
    return served


def _name(figures: Figures) -> str:
    users = "single" if figures.users == 1 else f"batches of {figures.users}"
    kind = "" if figures.kind == "any" else f", {figures.kind}"
    tuning = f" ({figures.tuning})" if figures.tuning and kind else ""
    return f"{figures.server}{tuning}{' JSON' if figures.format == 'json' else ''}{kind}, {users}"
