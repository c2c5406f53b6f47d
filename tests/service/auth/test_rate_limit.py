import pytest

from service.auth.rate_limit import TokenBucket


def test_a_seconds_worth_at_once_then_the_rate() -> None:
    bucket = TokenBucket(4.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(100.0) == pytest.approx(0.25)
    assert bucket.take(100.2) == pytest.approx(0.05)
    assert bucket.take(100.25) == 0.0
    assert bucket.take(100.25) == pytest.approx(0.25)


def test_rest_saves_no_more_than_a_seconds_worth() -> None:
    bucket = TokenBucket(2.0, now=0.0)
    assert [bucket.take(1e6) > 0 for _ in range(3)] == [False, False, True]


def test_one_now_and_then_where_the_rate_is_below_one_a_second() -> None:
    bucket = TokenBucket(0.1, now=0.0)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(1.0) == pytest.approx(9.0)
    assert bucket.take(10.5) == 0.0


def test_what_a_request_holds_is_paid_by_whoever_comes_next() -> None:
    bucket = TokenBucket(10.0, now=0.0)
    assert bucket.take(0.0) == 0.0
    bucket.charge(29)
    assert bucket.take(0.0) == pytest.approx(2.1)
    assert bucket.take(2.2) == 0.0
