import math

import numpy as np
import pytest

from service.locating.agreement import Position, covering_radius, judge

SCALE = math.sqrt(-2 * math.log(0.05))  # of a model whose covariances are right
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


def covariance(major: float, minor: float) -> np.ndarray:
    return TURN @ np.diag([major**2, minor**2]) @ TURN.T


def at(x: float, y: float, major: float = 1.0, minor: float | None = None, scale: float = SCALE) -> Position:
    return Position.calibrated(np.array([x, y]), covariance(major, major if minor is None else minor), scale)


def mean_of(stations: list[Position]) -> Position:
    information = [np.linalg.inv(one.covariance) for one in stations]
    joint = np.linalg.inv(sum(information))
    return Position(joint @ sum(one @ two.place for one, two in zip(information, stations, strict=True)), joint)


@pytest.mark.parametrize("stations", [2, 3, 4])
def test_honest_base_stations_disagree_a_few_times_in_a_thousand_users(stations: int) -> None:
    rng = np.random.default_rng(stations)
    shapes = [covariance(*rng.uniform(0.3, 8.0, 2)) for _ in range(stations)]
    roots = [np.linalg.cholesky(shape) for shape in shapes]
    users, disagreeing, outvoted = 3000, 0, 0
    for _ in range(users):
        found = [
            Position(np.array([40.0, -7.0]) + root @ rng.standard_normal(2), shape)
            for root, shape in zip(roots, shapes, strict=True)
        ]
        verdict = judge(found, mean_of(found))
        disagreeing += not verdict.agree
        outvoted += any(verdict.outvoted)
    pairs = stations * (stations - 1) / 2
    assert disagreeing + outvoted <= 3 * users * pairs / 1000
    assert disagreeing + outvoted > 0


def test_a_calibrated_position_has_the_radius_that_the_scale_says() -> None:
    assert at(0, 0, 3.0, 1.0, scale=4.0).radius == pytest.approx(12.0)


def test_a_model_whose_errors_are_twice_as_large_as_predicted_is_believed_half_as_much() -> None:
    for scale, agree in ((SCALE, False), (2 * SCALE, True)):
        two = [at(0, 0, scale=scale), at(8, 0, scale=scale)]
        assert judge(two, mean_of(two)).agree is agree


def test_distance_counts_along_the_narrow_axis_and_not_along_the_wide_one() -> None:
    for axis, agree in ((TURN[:, 0], True), (TURN[:, 1], False)):
        two = [at(0, 0, 30.0, 1.0), at(*(40 * axis), 30.0, 1.0)]
        assert judge(two, mean_of(two)).agree is agree


@pytest.mark.parametrize("joined", [(0.0, 0.0), (25.0, 0.0), (50.0, 0.0)])
def test_two_that_contradict_each_other_disagree_wherever_they_are_joined(joined: tuple[float, float]) -> None:
    verdict = judge([at(0, 0), at(50, 0)], at(*joined))
    assert verdict == ([False, False], False)


def test_one_that_two_others_contradict_is_outvoted() -> None:
    stations = [at(0, 0), at(60, 0), at(1, 1)]
    assert judge(stations, at(0.5, 0.5)) == ([False, True, False], True)
    assert judge([*stations, at(-1, 0)], at(0, 0)) == ([False, True, False, False], True)


def test_the_joined_position_must_be_that_of_the_majority() -> None:
    assert judge([at(0, 0), at(60, 0), at(1, 1)], at(60, 0)) == ([False, True, False], False)


def test_two_against_two_disagree() -> None:
    assert judge([at(0, 0), at(1, 0), at(60, 0), at(61, 0)], at(0.5, 0)) == ([False] * 4, False)


def test_one_that_knows_little_has_no_vote() -> None:
    assert judge([at(0, 0), at(50, 0), at(20, 5, 100.0)], at(0, 0)) == ([False] * 3, False)
    assert judge([at(0, 0), at(50, 0), at(1, 0), at(20, 5, 100.0)], at(0, 0)) == ([False, True, False, False], True)


def test_the_circle_holds_the_circle_of_every_base_station() -> None:
    rng = np.random.default_rng(0)
    stations = [at(0, 0, 3.0, 1.0), at(60, 10, 2.0, 2.0), at(-5, 30, 10.0, 0.5)]
    joined = at(10, 5)
    radius = covering_radius(stations, joined)
    angle = rng.uniform(0, 2 * np.pi, 500)
    circle = SCALE * np.stack([np.cos(angle), np.sin(angle)])
    for one in stations:
        edge = one.place + (np.linalg.cholesky(one.covariance) @ circle).T
        assert np.linalg.norm(edge - joined.place, axis=1).max() <= radius
    assert radius == pytest.approx(max(math.hypot(50, 5) + 2 * SCALE, math.hypot(15, 25) + 10 * SCALE))
