"""Queues by the work that stands in them; time is what the dispatches say it is."""

import time

import pytest

from service.admission import Admission
from service.errors import Congested

LONGEST, STANDING = 0.25, 0.005
MS = 1e-3


@pytest.fixture
def admission() -> Admission:
    """Users take a millisecond each, and the queue has long been standing."""
    admission = Admission(LONGEST, STANDING)
    admission.dispatched(10, 10 * MS, 0.0)
    return admission


@pytest.fixture
def burst(admission: Admission) -> Admission:
    """As before, but it was empty a moment ago."""
    admission.check("single", 0)
    return admission


def test_whoever_finds_nobody_waiting_may_come(admission: Admission) -> None:
    admission.check("single", 0)


def test_a_standing_queue_may_be_short_only(admission: Admission) -> None:
    admission.check("single", 5)
    with pytest.raises(Congested):
        admission.check("single", 6)


def test_a_burst_may_be_longer(burst: Admission) -> None:
    burst.check("single", 250)
    with pytest.raises(Congested):
        burst.check("single", 251)


def test_a_burst_that_does_not_drain_becomes_a_standing_queue(burst: Admission) -> None:
    time.sleep(60 * MS)
    with pytest.raises(Congested):
        burst.check("single", 6)
    burst.drained("single")
    burst.check("single", 6)


def test_the_lanes_are_judged_each_for_itself(burst: Admission) -> None:
    burst.check("single", 6)
    with pytest.raises(Congested):
        burst.check("batch", 6)


def test_time_spent_encoding_makes_no_standing_queue_but_counts_as_work(burst: Admission) -> None:
    burst.dispatched(10, 110 * MS, 100 * MS)  # smoothed: nothing was encoded before
    time.sleep(60 * MS)
    burst.check("single", 6)
    with pytest.raises(Congested):
        burst.check("single", 23)  # at 11 ms each


def test_a_dispatch_takes_fewer_users_the_longer_they_take() -> None:
    quick, slow = Admission(LONGEST, 0.02), Admission(LONGEST, 0.02)
    quick.dispatched(64, 64 * 0.5 * MS, 0.0)
    slow.dispatched(64, 64 * 5 * MS, 0.0)
    assert (quick.most, slow.most) == (40, 16)
