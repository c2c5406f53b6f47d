"""Against the definition, and by simulation: how rare false alarms are, and how fast a change is found."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from service.cells.bets import Bets, tolerated_share

SAMPLES = 300

PValues = Callable[[np.random.Generator], float]


def uniform(rng: np.random.Generator) -> float:
    return rng.uniform()


def tolerated(rng: np.random.Generator) -> float:
    """The worst that the null hypothesis allows, at both levels at once."""
    drawn = rng.uniform()
    if drawn < tolerated_share(0.02, SAMPLES):
        return 0.01
    return 0.05 if drawn < tolerated_share(0.1, SAMPLES) else 0.5


def foreign(share: float) -> PValues:
    return lambda rng: 0.003 if rng.uniform() < share else rng.uniform()


def count_alarms(draw: PValues, threshold: float, requests: int, seed: int) -> int:
    """How often the evidence reaches the threshold, if the test begins anew after each time."""
    rng, alarms, bets = np.random.default_rng(seed), 0, Bets(SAMPLES)
    for moment in range(requests):
        bets.note(draw(rng), moment)
        if bets.evidence >= threshold:
            alarms, bets = alarms + 1, Bets(SAMPLES)
    return alarms


def delay(draw: PValues, threshold: float, seed: int, before: int = 0) -> int:
    """After how many requests of `draw` the evidence reaches the threshold; at most 20,000."""
    rng, bets = np.random.default_rng(seed), Bets(SAMPLES)
    for moment in range(before):
        bets.note(rng.uniform(), moment)
    for moment in range(20_000):
        bets.note(draw(rng), moment)
        if bets.evidence >= threshold:
            return moment + 1
    return 20_000


def test_what_is_tolerated_covers_uniform_p_values_of_any_calibration() -> None:
    """A calibration of n fingerprints gives p-values below u with a probability of its own: Beta(k, n + 1 - k)."""
    rng = np.random.default_rng(0)
    for samples in (100, 300, 1000):
        for level in (0.02, 0.1):
            k = math.floor(level * (samples + 1))
            actual = rng.beta(k, samples + 1 - k, 100_000)
            assert (actual > tolerated_share(level, samples)).mean() < 0.006
    assert tolerated_share(0.1, 10**9) == pytest.approx(0.15, abs=1e-4)


def test_no_stake_grows_on_average_where_the_null_hypothesis_holds() -> None:
    """Exactly, not by simulation: the two factors, weighed by the tolerated share, are 1."""
    for bet in Bets(SAMPLES)._bets:
        share = tolerated_share(bet.level, SAMPLES)
        assert share * math.exp(bet.below) + (1 - share) * math.exp(bet.above) == pytest.approx(1)


@pytest.mark.parametrize("threshold", [30.0, 100.0])
def test_false_alarms_are_at_most_as_frequent_as_the_evidence_says(threshold: float) -> None:
    """At most one among so many p-values as the threshold, even at the worst that is tolerated."""
    requests = 60_000
    at_worst = count_alarms(tolerated, threshold, requests, seed=1)
    assert 0 < at_worst < requests / threshold
    assert count_alarms(uniform, threshold, requests, seed=1) < at_worst / 3


def test_uniform_p_values_raise_no_alarm_in_many_requests() -> None:
    assert count_alarms(uniform, 10_000.0, 200_000, seed=2) == 0


@pytest.mark.parametrize(("share", "slowest"), [(1.0, 12), (0.5, 40), (0.2, 300), (0.1, 2000)])
def test_a_change_is_found_the_sooner_the_larger_it_is(share: float, slowest: int) -> None:
    delays = [delay(foreign(share), 200_000.0, seed) for seed in range(15)]
    assert max(delays) < slowest


def test_a_shift_of_all_p_values_is_found_without_very_foreign_users() -> None:
    def lower(rng: np.random.Generator) -> float:
        return 0.02 + 0.98 * rng.uniform() ** 3

    assert max(delay(lower, 200_000.0, seed) for seed in range(15)) < 250


def test_a_change_after_many_good_requests_is_found_as_fast() -> None:
    at_once, late = ([delay(foreign(0.3), 200_000.0, seed, before) for seed in range(20)] for before in (0, 5000))
    assert np.median(late) < 1.3 * np.median(at_once)


def test_the_change_is_dated_to_when_it_came() -> None:
    rng, bets = np.random.default_rng(3), Bets(SAMPLES)
    for moment in range(3000):
        bets.note(rng.uniform(), moment)
    for moment in range(3000, 3060):
        bets.note(foreign(0.5)(rng), moment)
    assert bets.evidence > 200_000
    assert 2960 < bets.since < 3020


def test_good_traffic_wins_the_stakes_back() -> None:
    rng, bets = np.random.default_rng(4), Bets(SAMPLES)
    for moment in range(2000):
        bets.note(0.003, moment)
    highest, found = bets.evidence, []
    for moment in range(2000):
        bets.note(rng.uniform(), moment)
        found.append(bets.evidence)
    assert highest == pytest.approx(1e7, rel=1e-6)
    assert min(found) == 1.0
    assert sum(later > earlier for earlier, later in pairwise(found)) > 0
