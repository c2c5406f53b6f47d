"""A sequential test of p-values: is their share below a level still what a calibration promised?

The p-values of honest users in an unchanged street are uniform, but only about so: they come from a calibration of
`samples` fingerprints, and traffic is no survey. The null hypothesis therefore tolerates more: whatever came before, a
p-value lies below the level u with probability at most `1.5 u + 3 sqrt(u (1 - u) / samples)`.

The test bets against that. A bet expects a share q below the level u, where the null hypothesis allows at most t. It
multiplies its stake by q / t when a p-value lies below u, and by (1 - q) / (1 - t) when not, so under the null
hypothesis the stake never grows on average. A stake below 1 is raised to 1: a change after a million good requests is
found as fast as one after ten (CUSUM). The evidence is the mean stake of all bets. This makes it an e-detector (Shin,
Ramdas and Rinaldo 2023): under the null hypothesis, evidence of c takes at least c p-values on average, and comes up
among n of them with probability at most n / c. That holds for every c and n, and whatever else the p-values do.
"""

import math
from typing import NamedTuple

_LEVELS = (0.02, 0.1)  # the first finds few users who are very foreign, the second many who are a little
_ODDS = (2.0, 5.0)  # expected share over tolerated share
_MOST_EXPECTED = 0.9
_TOLERANCE, _SIGMAS = 1.5, 3.0
_HIGHEST_STAKE = 1e7  # good traffic has to lower it again


class _Bet(NamedTuple):
    """`below`: the factor, as a logarithm, by which the stake grows when a p-value is at most `level`, else `above`."""

    level: float
    below: float
    above: float


class Bets:
    """`samples`: how many fingerprints the p-values were calibrated on. For one thread."""

    def __init__(self, samples: int) -> None:
        self._bets = [_make_bet(level, odds, samples) for level in _LEVELS for odds in _ODDS]
        self._stakes = [0.0] * len(self._bets)  # logarithms
        self._since = [math.nan] * len(self._bets)

    def note(self, p_value: float, moment: float) -> None:
        for i, bet in enumerate(self._bets):
            if self._stakes[i] == 0:
                self._since[i] = moment
            stake = self._stakes[i] + (bet.below if p_value <= bet.level else bet.above)
            self._stakes[i] = min(max(stake, 0.0), math.log(_HIGHEST_STAKE))

    @property
    def evidence(self) -> float:
        """At least 1; exactly 1 while nothing speaks for a change."""
        return sum(map(math.exp, self._stakes)) / len(self._stakes)

    @property
    def since(self) -> float:
        """The moment of the first p-value that the highest stake rests on: about when the change came."""
        return self._since[self._stakes.index(max(self._stakes))]


def tolerated_share(level: float, samples: int) -> float:
    """The largest share of p-values below `level` that the null hypothesis allows."""
    return min(_TOLERANCE * level + _SIGMAS * math.sqrt(level * (1 - level) / samples), _MOST_EXPECTED / 2)


def _make_bet(level: float, odds: float, samples: int) -> _Bet:
    tolerated = tolerated_share(level, samples)
    expected = min(odds * tolerated, _MOST_EXPECTED)
    return _Bet(level, math.log(expected / tolerated), math.log((1 - expected) / (1 - tolerated)))
