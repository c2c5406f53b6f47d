"""The highest rate that a server keeps up with: a bracket, then bisection."""

from __future__ import annotations

from collections.abc import Callable

PRECISION = 1.05
_FEWEST = 0.5  # requests a second: a server that cannot keep that up sustains nothing
_NEAR, _MORE_CHANCES = 4.0, 2


def highest_rate(
    strain: Callable[[float], float],
    start: float,
    most: float,
    trials: int,
    step: float = 2.0,
    precision: float = PRECISION,
) -> float:
    """The highest rate that the server kept up with; 0 if it kept up with none.

    `strain` measures a rate; a strain of at most 1 means that the server keeps up. The search multiplies or divides
    `start` by `step`, which grows up to 2, until one rate passes and one fails, between half a request a second and
    `most`. Then it tries their geometric mean until the two are within `precision`. It makes at most `trials` trials.
    Noise can fail a rate that would pass, so a rate with a strain below `_NEAR` gets two more chances.
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
    while left and bad > good * precision:
        if passes(rate):
            if rate == most:
                return rate
            good = rate
            rate = min(step * rate, most) if bad == float("inf") else (good * bad) ** 0.5
        else:
            bad = rate
            rate = (good * bad) ** 0.5 if good else rate / step
            if rate < _FEWEST:
                return 0.0
        step = min(step**2, 2.0)
    return good
