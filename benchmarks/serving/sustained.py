"""The highest rate that a server keeps up with: a bracket, then bisection."""

from __future__ import annotations

from collections.abc import Callable

PRECISION = 1.05
_FEWEST = 0.5  # requests a second: a server that cannot keep that up sustains nothing
_NEAR, _MORE_CHANCES = 4.0, 2


def highest_rate(strain: Callable[[float], float], start: float, most: float, trials: int) -> float:
    """The highest rate tried that was kept up with; 0 where none was.

    `strain` says how hard a rate is: up to 1 it is kept up with. `start` is doubled, or halved down to half a request a
    second, until there is a rate that is kept up with and one that is not, `most` at the highest; then their middle is
    tried until they are within 5 %. `trials` at most. Noise can fail a rate that would pass, so a rate that fails by
    less than `_NEAR` is given two more chances.
    """
    left = trials

    def passes(rate: float) -> bool:
        nonlocal left
        left -= 1
        found = strain(rate)
        for _ in range(_MORE_CHANCES):
            if 1 < found < _NEAR and left:
                left -= 1
                found = strain(rate)
        return found <= 1

    rate = min(start, most)
    good, bad = 0.0, float("inf")
    while left and bad > good * PRECISION:
        if passes(rate):
            if rate == most:
                return rate
            good = rate
            rate = min(2 * rate, most) if bad == float("inf") else (good * bad) ** 0.5
        else:
            bad = rate
            rate = (good * bad) ** 0.5 if good else rate / 2
            if rate < _FEWEST:
                return 0.0
    return good
