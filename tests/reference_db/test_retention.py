import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from reference_db import Retention

NOW = 1.7e9


def _row(*easts: float) -> NDArray[np.float32]:
    return np.array([(east, 0) for east in easts], np.float32)


def test_no_policy_keeps_everything() -> None:
    assert Retention().kept(_row(0, 0, 0), np.zeros(3), NOW).all()
    assert Retention(max_age_s=1, max_fingerprints=1, min_spacing_m=1).kept(_row(), np.zeros(0), NOW).shape == (0,)


def test_old_fingerprints_expire_and_those_of_unknown_age_stay() -> None:
    times = NOW - np.array([0, 60, 60.001, 1e8, NOW])
    kept = Retention(max_age_s=60).kept(_row(0, 1, 2, 3, 4), times, NOW)
    np.testing.assert_array_equal(kept, [True, True, False, False, True])


def test_the_newest_stay_and_of_equal_times_the_later() -> None:
    times = np.array([5.0, 9, 7, 7, 0, 8])
    kept = Retention(max_fingerprints=3).kept(_row(0, 1, 2, 3, 4, 5), times, NOW)
    np.testing.assert_array_equal(kept, [False, True, False, True, False, True])


def test_the_newer_of_two_close_fingerprints_stays() -> None:
    easts, times = _row(0, 0.4, 0.8, 1.3, 5), np.array([1.0, 3, 2, 1, 1])
    kept = Retention(min_spacing_m=0.5).kept(easts, times, NOW)
    np.testing.assert_array_equal(kept, [False, True, False, True, True])


def test_fingerprints_exactly_the_spacing_apart_stay() -> None:
    assert Retention(min_spacing_m=0.5).kept(_row(0, 0.5, 1.0), np.ones(3), NOW).all()


def test_spacing_is_kept_far_from_the_base_station() -> None:
    places = np.nextafter(np.float32(99_999), np.float32(2e5)) + np.arange(400, dtype=np.float32) / 128
    kept = Retention(min_spacing_m=0.1).kept(_row(*places.tolist()), np.ones(400), NOW)
    left = np.sort(_row(*places.tolist())[kept, 0].astype(np.float64))
    assert np.diff(left).min() >= 0.1


def test_expired_fingerprints_do_not_displace_others() -> None:
    times = np.array([NOW - 100, NOW - 50, NOW - 10])
    kept = Retention(max_age_s=60, max_fingerprints=2, min_spacing_m=1).kept(_row(0, 0.1, 5), times, NOW)
    np.testing.assert_array_equal(kept, [False, True, True])


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 9)), max_size=40),
    st.sampled_from([0.25, 1.0, 3.0, 7.3]),
)
def test_spacing_equals_a_comparison_of_all_pairs(places: list[tuple[int, int, int]], spacing: float) -> None:
    positions = np.array([(east / 4, north / 4) for east, north, _ in places], np.float32).reshape(-1, 2)
    times = np.array([time for *_, time in places], np.float64)
    chosen: list[int] = []
    for row in sorted(range(len(places)), key=lambda row: (-times[row], -row)):
        gaps = [np.hypot(*(positions[row].astype(float) - positions[other])) for other in chosen]
        if all(gap >= spacing for gap in gaps):
            chosen.append(row)
    kept = Retention(min_spacing_m=spacing).kept(positions, times, NOW)
    assert sorted(chosen) == np.flatnonzero(kept).tolist()


@pytest.mark.parametrize(
    "policy",
    [
        {"max_age_s": 0},
        {"max_age_s": float("inf")},
        {"max_fingerprints": 0},
        {"min_spacing_m": -1},
        {"min_spacing_m": 1001},
        {"max_ages": 1},
    ],
)
def test_limits_out_of_range_are_refused(policy: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Retention.model_validate(policy)


def test_what_goes_is_told_by_the_first_limit_that_removes_it() -> None:
    times = NOW - np.array([100.0, 5, 4, 3, 2, 1])
    retention = Retention(max_age_s=60, min_spacing_m=0.5, max_fingerprints=3)
    excess = retention.find_excess(_row(0, 1, 2, 3, 4, 4.1), times, NOW)
    assert [np.flatnonzero(one).tolist() for one in excess] == [[0], [4], [1]]
