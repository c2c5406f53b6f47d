"""Whether base stations agree where a user is, and a circle that holds their answers where they do not."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import RADII_CONFIDENCE

_Floats = NDArray[np.float64]


def _square(probability: float) -> float:
    """The squared Mahalanobis distance within which this share of a plane normal distribution lies (chi-square, 2)."""
    return -2 * math.log(1 - probability)


# Two positions whose covariances are right lie farther apart once in a thousand times.
_CONTRADICTION = _square(0.999)


class Position(NamedTuple):
    """A position `[2]` and its covariance `[2, 2]`, in metres, with errors as large as the covariance says."""

    place: _Floats
    covariance: _Floats

    @classmethod
    def calibrated(cls, place: _Floats, covariance: _Floats, scale: float) -> "Position":
        """`covariance` as the model predicts it. Within the Mahalanobis distance `scale` lie `RADII_CONFIDENCE` of the
        model's errors.
        """
        return cls(place, covariance * scale**2 / _square(RADII_CONFIDENCE))

    @property
    def radius(self) -> float:
        """Of the circle around the ellipse that holds `RADII_CONFIDENCE` of errors."""
        return math.sqrt(_square(RADII_CONFIDENCE) * np.linalg.eigvalsh(self.covariance)[-1])

    def contradicts(self, other: "Position") -> bool:
        """Whether both cannot be right: their errors do not explain how far they lie apart."""
        away = self.place - other.place
        return bool(away @ np.linalg.solve(self.covariance + other.covariance, away) > _CONTRADICTION)


class Verdict(NamedTuple):
    """Which base stations are outvoted by the others, and whether the others support the joined position."""

    outvoted: list[bool]
    agree: bool


def judge(stations: list[Position], joined: Position) -> Verdict:
    """Compares the positions of several base stations with each other and with the position that joins them.

    Of two base stations that contradict each other, the one loses that more of all base stations contradict; those that
    contradict both, or neither because they know too little, have no vote. Without a loser the base stations disagree.
    They also do where one that is not outvoted contradicts the joined position.
    """
    numbers = range(len(stations))
    contradict = np.zeros((len(stations), len(stations)), bool)
    for i in numbers:
        for j in range(i):
            contradict[i, j] = contradict[j, i] = stations[i].contradicts(stations[j])
    outvoted, tied = [False] * len(stations), False
    for i, j in np.argwhere(np.triu(contradict)).tolist():
        for_i, for_j = int((contradict[j] & ~contradict[i]).sum()), int((contradict[i] & ~contradict[j]).sum())
        tied |= for_i == for_j
        outvoted[i] |= for_j > for_i
        outvoted[j] |= for_i > for_j
    supported = not any(stations[i].contradicts(joined) for i in numbers if not outvoted[i])
    return Verdict(outvoted, supported and not tied)


def covering_radius(stations: list[Position], joined: Position) -> float:
    """The radius of the circle around the joined position that holds the circle of every base station.

    It holds the user if the circle of any of them does.
    """
    return max(math.dist(one.place, joined.place) + one.radius for one in stations)
