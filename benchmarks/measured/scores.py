"""Errors by point: all snapshots of a point give one error."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured.corridors import Snapshots

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Located:
    """Where snapshots were located, in their order.

    Positions `[n, 2]` in metres and whether the true position is inside the stated 95 % ellipse, 0 or 1 `[n]`. Both
    are NaN for a snapshot that was refused; the second also where no error is stated. `causes` are of the refused.
    """

    positions: _Floats
    inside: _Floats
    causes: Counter[str]

    @classmethod
    def without_ellipses(cls, positions: NDArray[np.floating]) -> Located:
        return cls(positions.astype(np.float64), np.full(len(positions), np.nan), Counter())


@dataclass(frozen=True, eq=False)
class Score:
    """Of the points that have an answer, each `[points]`.

    `single`: the mean error in metres of the point's snapshots. `several`: the error of the median of their positions.
    `inside`: the share of them inside their ellipses.
    """

    single: _Floats
    several: _Floats
    inside: _Floats
    silent: int  # points all of whose snapshots were refused
    causes: Counter[str]

    @property
    def coverage(self) -> float | None:
        """None where no error is stated."""
        return None if np.isnan(self.inside).all() else float(np.nanmean(self.inside))


def score_by_point(located: Located, truth: Snapshots) -> Score:
    """Scores the answers to the snapshots `truth`."""
    errors = np.linalg.norm(located.positions - truth.positions, axis=1)
    single, several, inside, silent = [], [], [], 0
    for point in np.unique(truth.points):
        rows = np.flatnonzero((truth.points == point) & np.isfinite(errors))
        if not len(rows):
            silent += 1
            continue
        middle = np.median(located.positions[rows], axis=0)
        single.append(errors[rows].mean())
        several.append(np.linalg.norm(middle - truth.positions[rows[0]]))
        inside.append(located.inside[rows].mean())
    return Score(np.array(single), np.array(several), np.array(inside), silent, located.causes)
