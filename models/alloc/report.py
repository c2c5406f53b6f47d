"""Tables and figures of an experiment: mean errors, with the 10th and 90th percentiles over users and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.alloc.experiment import AllocExperiment, Rivals, lessons_of
from models.alloc.runs import read_errors
from models.alloc.trials import Trial
from models.pipeline.tables import markdown_table

PERCENTILES = (10, 90)


@dataclass(frozen=True)
class Figures:
    """Metres: the mean error, its range over the seeds, and the two percentiles of all users of all seeds."""

    mean: float
    lowest: float
    highest: float
    p10: float
    p90: float
    seeds: int

    @classmethod
    def of(cls, errors: Sequence[NDArray[np.float32]]) -> Figures:
        """Of one array a seed. Of several variants [variants, users] the one with the least mean error counts."""
        if errors[0].ndim == 2:
            best = int(np.mean([one.mean(1) for one in errors], axis=0).argmin())
            errors = [one[best] for one in errors]
        means = [float(one.mean()) for one in errors]
        p10, p90 = np.percentile(np.concatenate(errors), PERCENTILES)
        return cls(float(np.mean(means)), min(means), max(means), float(p10), float(p90), len(errors))

    def __str__(self) -> str:
        return f"{_metres(self.mean)} ({_metres(self.p10)}-{_metres(self.p90)})"


Results = dict[tuple[str, str, str, str], Figures]  # method, lesson, street, condition's label


def summarise(trials: Sequence[Trial], runs: Path) -> Results:
    """The figures of all trials that are made."""
    found: dict[tuple[str, str, str, str], list[NDArray[np.float32]]] = {}
    for trial in trials:
        errors = read_errors(trial, runs)
        if errors is not None:
            key = (trial.method, trial.lesson, trial.street, trial.condition.label)
            found.setdefault(key, []).append(errors)
    return {key: Figures.of(errors) for key, errors in found.items()}


def list_results(results: Results) -> list[dict[str, object]]:
    """The figures as plain data, one entry for each method, lesson, street and condition."""
    names = ("method", "lesson", "street", "condition")
    return [dict(zip(names, key, strict=True)) | vars(figures) for key, figures in results.items()]


def write_tables(
    experiment: AllocExperiment, rivals: Rivals, seeds: Sequence[int], trials: Sequence[Trial], runs: Path, command: str
) -> str:
    """Markdown: one table for each tested street."""
    results = summarise(trials, runs)
    labels = [condition.label for condition in experiment.conditions]
    parts = [
        f"# {experiment.title}",
        f"    {command}",
        f"Mean error in metres (10th to 90th percentile of all users), seeds {', '.join(map(str, seeds))}, "
        f"{rivals.users} users located in each street. kNN is the variant that is best on these users.",
        *experiment.notes,
    ]
    for street in experiment.tested:
        rows = []
        for method, lesson in _list_rows(experiment, rivals):
            figures = [results.get((method, lesson, street, label)) for label in labels]
            if any(figures):
                name = _name_row(experiment, rivals, method, lesson)
                rows.append([name, *(str(one) if one else "-" for one in figures)])
        parts.append(markdown_table([street, *labels], rows))
    waiting = sum(read_errors(trial, runs) is None for trial in trials)
    if waiting:
        parts.append(f"Not done yet: {waiting} of {len(trials)} trials.")
    return "\n\n".join(parts) + "\n"


def plot_results(experiment: AllocExperiment, rivals: Rivals, trials: Sequence[Trial], runs: Path, file: Path) -> None:
    """A panel for each tested street: the mean errors of the rows over the conditions, on a logarithmic axis."""
    from matplotlib.figure import Figure

    results = summarise(trials, runs)
    labels = [condition.label for condition in experiment.conditions]
    figure = Figure(figsize=(1.5 + 4.5 * len(experiment.tested), 4.5), layout="constrained")
    panels = figure.subplots(1, len(experiment.tested), squeeze=False)[0]
    rows = _list_rows(experiment, rivals)
    for panel, street in zip(panels, experiment.tested, strict=True):
        for number, (method, lesson) in enumerate(rows):
            points = [(x, results.get((method, lesson, street, label))) for x, label in enumerate(labels)]
            shown = [(x + 0.6 * (number / max(1, len(rows) - 1) - 0.5), one) for x, one in points if one]
            if not shown:
                continue
            middle = np.array([one.mean for _, one in shown])
            ends = np.array([[max(one.mean - one.p10, 0), max(one.p90 - one.mean, 0)] for _, one in shown]).T
            name = _name_row(experiment, rivals, method, lesson)
            panel.errorbar([x for x, _ in shown], middle, ends, fmt="o", capsize=2, label=name)
        panel.set_xticks(range(len(labels)), labels, rotation=20)
        panel.set_yscale("log")
        panel.set_ylabel("error, m: mean, 10th to 90th percentile")
        panel.set_title(street)
        panel.grid(alpha=0.3)
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _list_rows(experiment: AllocExperiment, rivals: Rivals) -> list[tuple[str, str]]:
    return [(method, lesson) for method in experiment.methods for lesson in lessons_of(experiment, rivals, method)]


def _name_row(experiment: AllocExperiment, rivals: Rivals, method: str, lesson: str) -> str:
    label = rivals.methods[method].label
    return f"{label}, {lesson}" if len(lessons_of(experiment, rivals, method)) > 1 else label


def _metres(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
