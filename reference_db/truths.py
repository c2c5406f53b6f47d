"""What surveyed truths say about the answers in a cell: counts and sums, without a position."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

MOST_GROUPS = 500  # of a cell; the oldest go
MOST_REMEMBERED = 20_000  # truths of a cell; the same truth does not count twice

# Errors are counted in bins whose bounds grow by a tenth: from 1 mm to beyond any cell.
_SMALLEST_M, _RATIO = 1e-3, 1.1
_LAST_BIN = 200

_COUNTS = ("truths", "inside", "proposed")
_SUMS = ("east", "north", "east_squared", "north_squared", "distance")
_BIN = "bin"


class TruthGroup(NamedTuple):
    """Truths that are counted together: of one day (UTC, `2026-01-31`), scored by answers of one source (the model
    family that located the user), one version of the cell and one stated confidence in per cent.
    """

    day: str
    source: str
    version: str
    confidence: int

    @classmethod
    def from_name(cls, name: str) -> Self:
        """The inverse of `str`. Raises `ValueError`."""
        day, source, version, confidence = name.split(" ")
        return cls(day, source, version, int(confidence))

    def __str__(self) -> str:
        """Names of earlier days sort first. No part holds a space."""
        return " ".join(map(str, self))


class ScoredTruth(NamedTuple):
    """A truth and the answer about it. `east` and `north` are the answer's error in metres.

    `name` tells a truth and what scored it from all others; `inside`: the stated ellipse holds the truth; `proposed`:
    it would pay as a fingerprint.
    """

    name: str
    group: TruthGroup
    east: float
    north: float
    inside: bool
    proposed: bool


@dataclass
class TruthCounts:
    """Truths of one group or several: how many, how many inside, sums of errors in metres and of their squares.

    `errors` counts by the distance between answer and truth, in bins of `bin_of`.
    """

    truths: int = 0
    inside: int = 0
    proposed: int = 0
    east: float = 0.0
    north: float = 0.0
    east_squared: float = 0.0
    north_squared: float = 0.0
    distance: float = 0.0
    errors: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, scored: ScoredTruth) -> Self:
        distance = math.hypot(scored.east, scored.north)
        return cls(
            1,
            int(scored.inside),
            int(scored.proposed),
            scored.east,
            scored.north,
            scored.east**2,
            scored.north**2,
            distance,
            Counter({bin_of(distance): 1}),
        )

    def __add__(self, other: "TruthCounts") -> "TruthCounts":
        return TruthCounts(
            self.truths + other.truths,
            self.inside + other.inside,
            self.proposed + other.proposed,
            self.east + other.east,
            self.north + other.north,
            self.east_squared + other.east_squared,
            self.north_squared + other.north_squared,
            self.distance + other.distance,
            self.errors + other.errors,
        )

    @classmethod
    def from_amounts(cls, amounts: Mapping[str, float]) -> Self:
        """The inverse of `amounts`. Raises `ValueError`."""
        made = cls(
            errors=Counter({int(name[len(_BIN) :]): int(amounts[name]) for name in amounts if name.startswith(_BIN)})
        )
        for name in _COUNTS:
            setattr(made, name, int(amounts.get(name, 0)))
        for name in _SUMS:
            setattr(made, name, float(amounts.get(name, 0)))
        return made

    def amounts(self) -> dict[str, float]:
        """Every count and sum by name, as stores keep them and add them up."""
        named = {name: getattr(self, name) for name in (*_COUNTS, *_SUMS)}
        return named | {f"{_BIN}{number}": count for number, count in self.errors.items()}

    def quantile(self, share: float) -> float:
        """The distance in metres within which this share of the truths lies, right to a twentieth. Of at least one
        truth.
        """
        rank, below = math.ceil(share * self.truths), 0
        for number in sorted(self.errors):
            below += self.errors[number]
            if below >= rank:
                break
        return _SMALLEST_M * math.pow(_RATIO, number + 0.5)


def bin_of(distance: float) -> int:
    """The bin of an error in metres, 0 to 200."""
    number = math.floor(math.log(max(distance, _SMALLEST_M) / _SMALLEST_M, _RATIO))
    return min(number, _LAST_BIN)
