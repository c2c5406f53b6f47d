from datetime import date

import pytest

from reference_db.truths import ScoredTruth, TruthCounts, TruthGroup
from service.truths.coverage import binomial_cdf, contradicts, coverage_interval, describe_truths, since

_GROUP = TruthGroup("2026-01-31", "mateformer", "10-ab", 95)


def _counts(inside: int, truths: int, east: float = 0.0) -> TruthCounts:
    counts = TruthCounts()
    for number in range(truths):
        counts += TruthCounts.of(ScoredTruth(str(number), _GROUP, east, 1.0, number < inside, proposed=False))
    return counts


@pytest.mark.parametrize(
    ("inside", "truths", "low", "high"),
    [  # by scipy.stats.binomtest(...).proportion_ci()
        (0, 10, 0.0, 0.3084971),
        (8, 10, 0.4439045, 0.9747893),
        (10, 10, 0.6915029, 1.0),
        (90, 100, 0.8237774, 0.9509953),
        (950, 1000, 0.9346095, 0.9626646),
        (95_000, 100_000, 0.9486311, 0.9513427),
    ],
)
def test_the_interval_is_that_of_clopper_and_pearson(inside: int, truths: int, low: float, high: float) -> None:
    assert coverage_interval(inside, truths, 0.95) == pytest.approx((low, high), abs=1e-7)


def test_the_distribution_is_the_sum_of_its_terms() -> None:
    assert binomial_cdf(1, 3, 0.25) == pytest.approx(0.75**3 + 3 * 0.25 * 0.75**2)


@pytest.mark.parametrize(
    ("inside", "truths", "verdict"),
    [
        (8, 10, "UNDECIDED"),
        (95, 100, "HOLDS"),
        (88, 100, "TOO_FEW_INSIDE"),
        (100, 100, "MORE_INSIDE"),
    ],
)
def test_a_verdict_needs_truths(inside: int, truths: int, verdict: str) -> None:
    total = describe_truths("c", {_GROUP: _counts(inside, truths)}).total
    assert total is not None
    assert (total.coverage, total.verdict) == (100 * inside / truths, verdict)


def test_an_alarm_needs_more_certainty_than_a_verdict() -> None:
    assert not contradicts({_GROUP: _counts(88, 100)}, 0.999)
    assert contradicts({_GROUP: _counts(86, 100)}, 0.999)
    assert not contradicts({_GROUP: _counts(100, 100)}, 0.999)  # too large ellipses are no alarm
    assert not contradicts({}, 0.999)


def test_the_stated_confidence_is_that_of_the_answers() -> None:
    counts = {_GROUP: _counts(90, 100), _GROUP._replace(confidence=50): _counts(55, 100)}
    total = describe_truths("c", counts).total
    assert total is not None
    assert (total.truths, total.confidence, total.verdict) == (200, 72.5, "HOLDS")


def test_the_bias_is_the_mean_error_and_says_how_exact_it_is() -> None:
    counts = _counts(2, 2, east=1.0) + _counts(2, 2, east=3.0)
    total = describe_truths("c", {_GROUP: counts}).total
    assert total is not None
    assert (total.bias.east, total.bias.north) == (2.0, 1.0)
    assert total.bias.east_sigma == pytest.approx((1 / 3) ** 0.5)  # four values, 1 from their mean
    assert total.bias.north_sigma == 0.0
    assert total.median_error == pytest.approx(2**0.5, rel=0.05)
    one = describe_truths("c", {_GROUP: _counts(1, 1)}).total
    assert one is not None
    assert one.bias.east_sigma is None


def test_truths_are_told_apart_by_source_version_and_day() -> None:
    counts = {
        _GROUP: _counts(1, 2),
        _GROUP._replace(version="9-cd"): _counts(3, 3),
        _GROUP._replace(day="2026-02-01", source="lwlm"): _counts(4, 4),
    }
    report = describe_truths("c", counts)
    assert [(one.source, one.truths) for one in report.sources] == [("lwlm", 4), ("mateformer", 5)]
    assert [(one.version, one.truths) for one in report.versions] == [("10-ab", 6), ("9-cd", 3)]
    assert [(one.day, one.inside) for one in report.days] == [(date(2026, 2, 1), 4), (date(2026, 1, 31), 4)]
    assert since(counts, date(2026, 2, 1)).keys() == {_GROUP._replace(day="2026-02-01", source="lwlm")}


def test_without_truths_there_is_no_total() -> None:
    report = describe_truths("c", {})
    assert report.total is None
    assert report.sources == report.versions == report.days == []
