"""A service's memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.soak.memory import Sample


def draw(samples: Sequence[Sample], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    minutes = [one.seconds / 60 for one in samples]
    axes.plot(minutes, [one.resident for one in samples], label="resident", color="tab:blue")
    axes.plot(minutes, [one.mapped for one in samples], label="of which mapped files", color="0.6")
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), xlim=(0, minutes[-1]))
    axes.legend(loc="center right")
    figure.savefig(path, dpi=100)
