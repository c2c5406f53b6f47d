"""Which coverage counts of truths support, and whether they contradict what was stated."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from fingerpost.wire_truths import (
    Bias,
    TruthReport,
    TruthsOfDay,
    TruthsOfSource,
    TruthsOfVersion,
    TruthSummary,
    Verdict,
)
from reference_db.truths import TruthCounts, TruthGroup

_SHOWN = 0.95  # of the interval in answers
_FEW = 0.1  # an interval that reaches farther below the stated confidence decides nothing
_STEPS = 60  # of a bisection: to the last bit of a float


def describe_truths(cell_id: str, counts: Mapping[TruthGroup, TruthCounts]) -> TruthReport:
    versions = _split(counts, lambda group: group.version)
    days = _split(counts, lambda group: group.day)
    sources = _split(counts, lambda group: group.source)
    return TruthReport(
        cell_id=cell_id,
        total=TruthSummary(**_summarise(counts)) if counts else None,
        sources=[TruthsOfSource(source=name, **_summarise(sources[name])) for name in sorted(sources)],
        versions=[
            TruthsOfVersion(version=name, **_summarise(versions[name]))
            for name in sorted(versions, key=_number, reverse=True)
        ],
        days=[
            TruthsOfDay(day=date.fromisoformat(name), **_summarise(days[name])) for name in sorted(days, reverse=True)
        ],
    )


def since(counts: Mapping[TruthGroup, TruthCounts], day: date) -> dict[TruthGroup, TruthCounts]:
    """The counts of this day and later ones."""
    return {group: one for group, one in counts.items() if group.day >= day.isoformat()}


def contradicts(counts: Mapping[TruthGroup, TruthCounts], certainty: float) -> bool:
    """Whether fewer truths are inside than stated, and chance explains this less often than 1 - `certainty`."""
    total = sum(counts.values(), TruthCounts())
    if not total.truths:
        return False
    return coverage_interval(total.inside, total.truths, 2 * certainty - 1)[1] < _stated(counts)


def coverage_interval(inside: int, truths: int, share: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson: with at least the probability `share` it holds the true coverage."""
    tail = (1 - share) / 2
    low = 0.0 if inside == 0 else _solve(lambda p: 1 - binomial_cdf(inside - 1, truths, p), tail, rising=True)
    high = 1.0 if inside == truths else _solve(lambda p: binomial_cdf(inside, truths, p), tail, rising=False)
    return low, high


def binomial_cdf(most: int, trials: int, chance: float) -> float:
    """The probability of at most `most` successes, 0 <= most < trials: a regularised incomplete beta function."""
    return _incomplete_beta(trials - most, most + 1, 1 - chance)


def _solve(function: Callable[[float], float], wanted: float, *, rising: bool) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if (function(middle) < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated with the method of Lentz."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(log_front) * fraction / a


def _split(
    counts: Mapping[TruthGroup, TruthCounts], name_of: Callable[[TruthGroup], str]
) -> dict[str, dict[TruthGroup, TruthCounts]]:
    parts: defaultdict[str, dict[TruthGroup, TruthCounts]] = defaultdict(dict)
    for group, one in counts.items():
        parts[name_of(group)][group] = one
    return parts


def _number(version: str) -> int:
    return int(version.partition("-")[0])


def _stated(counts: Mapping[TruthGroup, TruthCounts]) -> float:
    """The stated confidence, on average. With several, the number inside varies less than that of one such confidence:
    intervals are then too wide, not too narrow.
    """
    truths = sum(one.truths for one in counts.values())
    return sum(group.confidence * one.truths for group, one in counts.items()) / truths / 100


def _summarise(counts: Mapping[TruthGroup, TruthCounts]) -> dict[str, Any]:
    total, stated = sum(counts.values(), TruthCounts()), _stated(counts)
    low, high = coverage_interval(total.inside, total.truths, _SHOWN)
    return {
        "truths": total.truths,
        "inside": total.inside,
        "coverage": _per_cent(total.inside / total.truths),
        "coverage_low": _per_cent(low),
        "coverage_high": _per_cent(high),
        "confidence": _per_cent(stated),
        "verdict": _judge(low, high, stated),
        "bias": _bias(total),
        "mean_error": total.distance / total.truths,
        "median_error": total.quantile(0.5),
        "p95_error": total.quantile(0.95),
        "proposed": total.proposed,
    }


def _per_cent(share: float) -> float:
    return round(100 * share, 2)


def _judge(low: float, high: float, stated: float) -> Verdict:
    if high < stated:
        return "TOO_FEW_INSIDE"
    if low > stated:
        return "MORE_INSIDE"
    return "HOLDS" if low >= stated - _FEW else "UNDECIDED"


def _bias(total: TruthCounts) -> Bias:
    n = total.truths
    east, north = total.east / n, total.north / n
    if n == 1:
        return Bias(east=east, north=north)

    def sigma(mean: float, squared: float) -> float:
        return math.sqrt(max(squared / n - mean**2, 0.0) / (n - 1))

    return Bias(
        east=east,
        north=north,
        east_sigma=sigma(east, total.east_squared),
        north_sigma=sigma(north, total.north_squared),
    )
