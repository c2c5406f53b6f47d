"""Admission by the time that users have waited and will have to wait."""

import math
from types import SimpleNamespace

import pytest

from service.errors import Congested
from service.inference import admission
from service.inference.admission import Admission

LONGEST, STANDING = 0.25, 0.005
MS = 1e-3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Moves only when a test changes `now`, so that a slow machine does not turn a burst into lasting load."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(admission, "time", clock)
    return clock


@pytest.fixture
def burst(clock: SimpleNamespace) -> Admission:
    """The model was idle a moment ago."""
    burst = Admission(LONGEST, STANDING)
    burst.start_busy_period()
    return burst


@pytest.fixture
def lasting(burst: Admission, clock: SimpleNamespace) -> Admission:
    """The model has been busy for longer than a burst."""
    clock.now += 60 * MS
    return burst


def test_under_lasting_load_a_long_wait_refuses_new_users(lasting: Admission) -> None:
    lasting.check("single", 4 * MS, 0)
    with pytest.raises(Congested):
        lasting.check("single", 6 * MS, 0)


def test_batches_may_wait_longer(lasting: Admission) -> None:
    lasting.check("batch", 9 * MS, 0)
    with pytest.raises(Congested):
        lasting.check("batch", 11 * MS, 0)


def test_a_burst_may_wait_longer(burst: Admission) -> None:
    burst.check("single", 240 * MS, 0)
    with pytest.raises(Congested):
        burst.check("single", 260 * MS, 0)


def test_load_after_a_pause_is_a_burst_again(lasting: Admission) -> None:
    lasting.start_busy_period()
    lasting.check("single", 240 * MS, 0)


def test_who_was_admitted_in_a_burst_is_refused_once_new_users_are_refused_for_lasting_load(
    lasting: Admission,
) -> None:
    assert lasting.longest_single_wait == math.inf
    with pytest.raises(Congested):
        lasting.check("single", 100 * MS, 0)
    assert lasting.longest_single_wait == STANDING
    lasting.start_busy_period()
    assert lasting.longest_single_wait == math.inf


def test_a_burst_that_is_too_large_keeps_its_users(burst: Admission) -> None:
    with pytest.raises(Congested):
        burst.check("single", 260 * MS, 0)
    assert burst.longest_single_wait == math.inf


def test_time_spent_encoding_does_not_count_as_lasting_load(burst: Admission, clock: SimpleNamespace) -> None:
    burst.record_dispatch(1, 101 * MS, 100 * MS)
    clock.now += 60 * MS
    burst.check("single", 240 * MS, 0)


def test_while_frames_are_encoded_users_may_wait_up_to_twice_as_long(
    lasting: Admission, clock: SimpleNamespace
) -> None:
    lasting.record_dispatch(1, 3 * MS, 2 * MS)
    lasting.check("single", 6.5 * MS, 0)
    with pytest.raises(Congested):
        lasting.check("single", 7.5 * MS, 0)
    lasting.record_dispatch(1, 51 * MS, 50 * MS)
    clock.now += 60 * MS
    lasting.check("single", 9.5 * MS, 0)
    with pytest.raises(Congested):
        lasting.check("single", 10.5 * MS, 0)
    assert lasting.longest_single_wait == 2 * STANDING  # who was admitted is not refused for it
    lasting.record_dispatch(1, 1 * MS, 0.0)
    with pytest.raises(Congested):
        lasting.check("single", 6 * MS, 0)


def test_a_long_queue_refuses_new_users_before_anyone_has_waited(lasting: Admission) -> None:
    lasting.record_dispatch(10, 10 * MS, 0.0)  # a millisecond each
    lasting.check("single", 0.0, 4)
    with pytest.raises(Congested):
        lasting.check("single", 0.0, 6)


def test_dispatch_size_follows_the_time_a_user_takes(burst: Admission) -> None:
    assert burst.dispatch_size(64) == 64  # no measurement yet
    burst.record_dispatch(64, 32 * MS, 0.0)
    assert burst.dispatch_size(64) == 32
    for _ in range(100):
        burst.record_dispatch(1, 20 * MS, 0.0)
    assert burst.dispatch_size(64) == 16
