"""What the null subcarriers of a capture tell: when it was made.

Nothing is sent on them. The chip fills them with values that it keeps for some minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.measured.corridors import Corridor, find_null_subcarriers

MINUTES, METRES = (0.0, 10.0, 60.0, np.inf), (0.0, 1.5, 5.0, np.inf)  # bounds of the classes of pairs

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of points of one corridor, `[pairs]`: minutes and metres apart, and whether their null values are equal."""

    minutes: _Floats
    metres: _Floats
    equal: NDArray[np.bool_]


def compare_points(corridor: Corridor) -> Pairs:
    """All pairs of points of both parts. A point's null values are those of most of its snapshots."""
    words, times, places = [], [], []
    for part in (corridor.survey, corridor.test):
        null = part.csi[:, 0, find_null_subcarriers()]
        for point in np.unique(part.points):
            rows = part.points == point
            kinds, counts = np.unique(null[rows], axis=0, return_counts=True)
            words.append(kinds[counts.argmax()])
            times.append(np.median(part.times[rows]))
            places.append(part.positions[rows][0])
    one, other = np.triu_indices(len(words), 1)
    values, moments, positions = np.array(words), np.array(times), np.array(places)
    return Pairs(
        np.abs(moments[one] - moments[other]) / 60,
        np.linalg.norm(positions[one] - positions[other], axis=1).astype(np.float64),
        (values[one] == values[other]).all(axis=1),
    )


def describe_captures(corridors: Sequence[Corridor]) -> list[str]:
    """Paragraphs of the report: how often points share their null values, and how soon tests followed the survey."""
    found = [compare_points(corridor) for corridor in corridors]
    pairs = Pairs(*(np.concatenate([getattr(one, name) for one in found]) for name in ("minutes", "metres", "equal")))
    rows = []
    for class_of_time, low in enumerate(MINUTES[:-1]):
        in_time = (pairs.minutes >= low) & (pairs.minutes < MINUTES[class_of_time + 1])
        shares = []
        for class_of_place, near in enumerate(METRES[:-1]):
            some = in_time & (pairs.metres >= near) & (pairs.metres < METRES[class_of_place + 1])
            shares.append(f"{pairs.equal[some].mean():.0%} of {some.sum():,}" if some.any() else "-")
        rows.append([_describe_class(MINUTES, class_of_time, "minutes"), *shares])
    head = ["captured apart by", *(_describe_class(METRES, number, "m") for number in range(len(METRES) - 1))]
    gaps = [np.abs(one.test.times[:, np.newaxis] - one.survey.times).min(axis=1) for one in corridors]
    return [
        "Pairs of points of one corridor whose null subcarriers hold the same values, by how far apart they were "
        "captured in time and in place:",
        table(head, rows),
        f"The reference next in time was captured {np.median(np.concatenate(gaps)) / 60:.1f} minutes before or after "
        "a test snapshot (median).",
    ]


def _describe_class(bounds: Sequence[float], number: int, unit: str) -> str:
    low, high = bounds[number], bounds[number + 1]
    return f"{low:g} {unit} or more" if np.isinf(high) else f"{low:g} to {high:g} {unit}"
