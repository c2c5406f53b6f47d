"""The tables of an LWLM experiment, from the results of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.lwlm.experiment import LwlmExperiment, Run, Task, read_model_based, read_result
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.tables import describe_overrides, markdown_table

TASKS: dict[Task, str] = {
    "toa": "ToA as range: mean error of the first path's length in metres",
    "aoa": "AoA: mean error of the first path's azimuth in degrees",
    "single": "One base station: mean position error in metres",
    "multi": "All base stations of a user: mean position error in metres",
}
MODEL_BASED = {"first": "model-based", "strongest": "model-based, textbook MUSIC"}

Results = Mapping[Run, dict[str, Any]]


def write_tables(experiment: LwlmExperiment, recipes: Mapping[Run, LwlmRecipe], runs: Path, command: str) -> str:
    """Markdown of all complete runs, one table per task."""
    results = {run: result for run, recipe in recipes.items() if (result := read_result(recipe, runs)) is not None}
    some = next(iter(recipes.values()))
    seeds = ", ".join(map(str, dict.fromkeys(run.seed for run in recipes)))
    parts = [
        f"# {experiment.title}",
        f"    {command}",
        f"Mean over seeds {seeds} ± their standard deviation; in brackets LOS / NLOS. Tested on"
        f" {', '.join(some.streets.test)}; labels are snapshots, {some.streets.stations} of each labelled user."
        f" Pretraining {some.optimiser.steps:,} steps of {some.objectives.batch} users, decoders"
        f" {some.decoding.optimiser.steps:,} steps of {some.decoding.batch} users.",
    ]
    for task in experiment.tasks:
        parts += [f"## {TASKS[task]}", *_tables(experiment, recipes, results, runs, task)]
    changes = {name: describe_overrides(changed) for name, changed in experiment.variants.items()}
    parts.append("; ".join(f"{name}: {words}" for name, words in changes.items() if words) + ".")
    if waiting := [" ".join(map(str, run)) for run in recipes if run not in results]:
        parts.append(f"Not done yet: {', '.join(waiting)}.")
    return "\n\n".join(parts) + "\n"


def _tables(
    experiment: LwlmExperiment, recipes: Mapping[Run, LwlmRecipe], results: Results, runs: Path, task: Task
) -> Iterable[str]:
    labels = list(dict.fromkeys(run.labels for run in recipes))
    rows = []
    for variant in experiment.variants:
        cells = [_cell(_pick(results, variant, count, task)) for count in labels]
        rows.append([variant, *cells])
    ours, rival = experiment.compared
    gains = []
    for count in labels:
        a, b = (_pick(results, name, count, task) for name in (ours, rival))
        gains.append(f"{100 * (1 - _mean(a) / _mean(b)):.0f} %" if a and b else "-")
    rows.append([f"*{ours}: lower than {rival} by*", *gains])
    if task == "multi":
        surest = [_cell(_pick(results, ours, count, "surest")) for count in labels]
        rows.append([f"*{ours}: the one station with the smallest predicted spread*", *surest])
    for kind, name in MODEL_BASED.items():
        if (measured := read_model_based(next(iter(recipes.values())), runs, kind)) is not None:
            rows.append([name, *[_cell([measured[task]])] * len(labels)])
    yield markdown_table(["labels", *(f"{count:,}" for count in labels)], rows)


def plot_curves(experiment: LwlmExperiment, recipes: Mapping[Run, LwlmRecipe], runs: Path, path: Path) -> None:
    """One panel per task: the error of each variant over the number of labels, with the seeds' spread."""
    from matplotlib.figure import Figure

    results = {run: result for run, recipe in recipes.items() if (result := read_result(recipe, runs)) is not None}
    labels = sorted({run.labels for run in results})
    figure = Figure(figsize=(7 * len(experiment.tasks), 5), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(experiment.tasks), squeeze=False)[0], experiment.tasks, strict=True):
        for variant in experiment.variants:
            values = [[one["all"] for one in _pick(results, variant, count, task)] for count in labels]
            drawn = [(count, some) for count, some in zip(labels, values, strict=True) if some]
            means = [np.mean(some) for _, some in drawn]
            axes.errorbar([count for count, _ in drawn], means, [np.std(some) for _, some in drawn], label=variant)
        for kind, name in MODEL_BASED.items():
            if (measured := read_model_based(next(iter(recipes.values())), runs, kind)) is not None:
                axes.axhline(
                    measured[task]["all"], linestyle=":" if kind == "strongest" else "--", color="k", label=name
                )
        axes.set(xlabel="labelled snapshots", title=TASKS[task], xscale="log", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=90)


def _pick(results: Results, variant: str, labels: int, task: str) -> list[dict[str, float]]:
    """The errors of all complete seeds."""
    return [one["errors"][task] for run, one in results.items() if (run.variant, run.labels) == (variant, labels)]


def _mean(errors: list[dict[str, float]]) -> float:
    return float(np.mean([one["all"] for one in errors]))


def _cell(errors: list[dict[str, float]]) -> str:
    if not errors:
        return "-"
    values = [one["all"] for one in errors]
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    parts = [f"{np.mean([one[part] for one in errors]):.2f}" for part in ("los", "nlos") if part in errors[0]]
    return f"{np.mean(values):.2f}{spread} ({' / '.join(parts)})"
