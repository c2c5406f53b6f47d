"""What counts, and what is made of it. `test_bets` has the statistics."""

import numpy as np
import pytest

from service.cells.drift import FALSE_ALARM_REQUESTS, JudgedUser, VersionDrift

DAY_S = 86_400.0


def walk(n: int, seed: int) -> list[tuple[float, float]]:
    """Places all over an area of 400 x 400 m: few are near one of the 32 before."""
    places = np.random.default_rng(seed).uniform(0, 400, (n, 2))
    return [(float(x), float(y)) for x, y in places]


def traffic(seed: int = 0) -> VersionDrift:
    """Five thousand honest users, with and without a fix, a second apart."""
    drift, rng = VersionDrift(1500, 300), np.random.default_rng(seed)
    for second, place in enumerate(walk(5000, seed)):
        drift.note(JudgedUser(place, rng.uniform(), rng.uniform() if second % 2 else None), second)
    return drift


def test_honest_traffic_shows_no_sign() -> None:
    drift = traffic().describe()
    assert drift.signs == ()
    assert (drift.since, drift.noticed) == (None, None)
    assert 1 <= drift.evidence < 1000
    assert drift.counted > 4500


@pytest.mark.parametrize(("sign", "p_values"), [("signal", (0.003, 0.5)), ("fixes", (0.5, 0.003))])
def test_drift_is_noticed_dated_and_named(sign: str, p_values: tuple[float, float]) -> None:
    drift = traffic()
    for second, place in enumerate(walk(300, 1), start=10_000):
        drift.note(JudgedUser(place, *p_values), second)
    found = drift.describe()
    assert found.signs == (sign,)
    assert found.since is not None
    assert found.noticed is not None
    assert 9_900 / 2 < found.since <= 10_005
    assert 10_005 < found.noticed < 10_060
    assert found.evidence >= FALSE_ALARM_REQUESTS


def test_the_mark_goes_after_as_much_good_traffic() -> None:
    drift, rng = VersionDrift(1500, 300), np.random.default_rng(5)
    for second, place in enumerate(walk(200, 1)):
        drift.note(JudgedUser(place, 0.003), second)
    assert drift.signs == ("signal",)
    for second, place in enumerate(walk(100, 2), start=1000):
        drift.note(JudgedUser(place, 0.2 + 0.8 * rng.uniform()), second)
    assert drift.signs == ("signal",)  # not at once
    for second, place in enumerate(walk(2000, 3), start=2000):
        drift.note(JudgedUser(place, rng.uniform()), second)
    assert drift.describe() == drift.describe()._replace(signs=(), since=None, noticed=None)


@pytest.mark.parametrize("turned_deg", [0.0, 2.0, -10.0])
def test_a_turned_array_shows_in_the_bearings_since_it_was_turned(turned_deg: float) -> None:
    """Fixes are off by 3 degrees, and one in ten by any angle."""
    drift, rng = traffic(), np.random.default_rng(8)
    for second, place in enumerate(walk(500, 1), start=10_000):
        angle = np.radians(turned_deg) + (rng.normal(0, np.radians(3)) if second % 10 else rng.uniform(-3, 3))
        drift.note(JudgedUser(place, 0.003, 0.2, float(angle)), second)
    found = drift.describe().turn
    if turned_deg == 0:
        assert found is None
    else:
        assert found is not None
        assert np.degrees(found) == pytest.approx(turned_deg, abs=0.6)


def test_a_parked_car_counts_once_however_much_it_sends() -> None:
    drift = VersionDrift(1500, 300)
    counted = [drift.note(JudgedUser((10.0 + 0.1 * np.sin(i), 20.0), 0.003, 0.003), float(i)) for i in range(2000)]
    assert sum(counted) == 1
    assert drift.signs == ()


def test_one_odd_place_among_others_raises_no_alarm() -> None:
    """Every second request comes from there, and every one of them is foreign."""
    drift, rng = VersionDrift(1500, 300), np.random.default_rng(7)
    for second, place in enumerate(walk(40_000, 7)):
        drift.note(JudgedUser((1000.0, 0.0), 0.001), second)
        drift.note(JudgedUser(place, rng.uniform()), second)
    assert drift.signs == ()


def test_a_place_counts_again_after_32_others_or_a_day() -> None:
    drift = VersionDrift(1500, 300)
    assert drift.note(JudgedUser((0.0, 0.0), 0.5), 0.0)
    assert not drift.note(JudgedUser((2.0, -2.0), 0.5), 1.0)
    others = [(8.0 * i, 40.0) for i in range(32)]
    for place in others[:-1]:
        assert drift.note(JudgedUser(place, 0.5), 2.0)
    assert not drift.note(JudgedUser((0.0, 0.0), 0.5), 3.0)
    assert drift.note(JudgedUser(others[-1], 0.5), 3.0)
    assert drift.note(JudgedUser((0.0, 0.0), 0.5), 4.0)
    few = VersionDrift(1500, 300)  # a cell with few places
    assert few.note(JudgedUser((0.0, 0.0), 0.5), 0.0)
    assert not few.note(JudgedUser((0.0, 0.0), 0.5), DAY_S - 1)
    assert few.note(JudgedUser((0.0, 0.0), 0.5), DAY_S + 1)
    assert few.describe().counted == 2
