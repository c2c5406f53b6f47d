"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.measured.corridors import Shown
from benchmarks.measured.scores import Score
from benchmarks.measured.training import Learned
from benchmarks.serving import machine

TITLES: Mapping[Shown, str] = {
    "channel": "The subcarriers that carry a signal",
    "captured": "All subcarriers as they were captured",
}
_INTRODUCTION = """\
One antenna, 20 MHz, one access point a corridor (CSUIndoorLoc, L. Wang and S. Pasricha, IPIN 2022). No coarse position.
Errors are by point: *one snapshot* is the mean error of the point's snapshots, *several snapshots* the error of the
median of their positions. *Inside the ellipse* is the mean over the points of the share of their snapshots. The models
of the last rows never saw the corridor that they locate in: they were trained on the surveys of the others, and their
settings were chosen at held-out locations of these. Where a row names no number of snapshots, all snapshots of the
survey are references."""
HEAD = (
    "corridor",
    "located by",
    "points",
    "one snapshot: mean / median / p90 m",
    "several snapshots: mean / median / p90 m",
    "inside the 95 % ellipse",
    "refused",
)


@dataclass(frozen=True)
class Row:
    corridor: str
    method: str
    score: Score


@dataclass(frozen=True)
class Trained:
    """A model for `corridor`, trained on the others."""

    corridor: str
    plan: str
    learned: Learned


@dataclass(frozen=True)
class Section:
    """What was found with one choice of subcarriers. `faults`: why the service would refuse a corridor's survey."""

    shown: Shown
    rows: Sequence[Row]
    trained: Sequence[Trained]
    faults: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()  # paragraphs


def report(sections: Sequence[Section], command: str) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    parts = [
        "# Measured corridors",
        f"{datetime.now(UTC).date().isoformat()}. `{command}`: {words}.",
        _INTRODUCTION,
        *(part for section in sections for part in _describe(section)),
    ]
    return "\n\n".join(parts) + "\n"


def _describe(section: Section) -> Iterator[str]:
    yield f"## {TITLES[section.shown]}"
    yield table(HEAD, [_describe_row(row) for row in section.rows])
    yield from section.notes
    for corridor, faults in section.faults.items():
        yield f"The service would refuse the survey of {corridor} without `--force`: {'; '.join(faults)}."
    if section.trained:
        head = ("for", "recipe", "setting", "mean error at held-out locations m", "before training m", "chosen")
        yield table(head, [line for one in section.trained for line in _describe_training(one)])


def _describe_row(row: Row) -> list[str]:
    score = row.score
    refused = [f"{count} {cause}" for cause, count in sorted(score.causes.items())]
    if score.silent:
        refused.append(f"{score.silent} points without an answer")
    return [
        row.corridor,
        row.method,
        str(len(score.single)),
        describe_errors(score.single),
        describe_errors(score.several),
        "-" if score.coverage is None else f"{score.coverage:.0%}",
        ", ".join(refused) or "0",
    ]


def _describe_training(trained: Trained) -> Iterator[list[str]]:
    learned = trained.learned
    for setting, error in learned.held_out.items():
        chosen = setting == learned.chosen
        before = f"{learned.before:.2f}" if chosen and learned.before is not None else "-"
        yield [trained.corridor, trained.plan, str(setting), f"{error:.2f}", before, "yes" if chosen else ""]


def describe_errors(errors: NDArray[np.float64]) -> str:
    """Mean, median and 90th percentile."""
    if not len(errors):
        return "-"
    return f"{errors.mean():.2f} / {np.median(errors):.2f} / {np.percentile(errors, 90):.2f}"
