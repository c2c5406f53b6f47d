import math

import numpy as np
import pytest

from service.locating.agreement import covering_radius, do_agree

SCALE = math.sqrt(-2 * math.log(0.05))  # of a model whose covariances are right
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


def covariance(major: float, minor: float) -> np.ndarray:
    return TURN @ np.diag([major**2, minor**2]) @ TURN.T


@pytest.mark.parametrize("stations", [2, 3, 4])
def test_honest_base_stations_disagree_once_in_a_thousand_users(stations: int) -> None:
    rng = np.random.default_rng(stations)
    covariances = np.stack([covariance(*rng.uniform(0.3, 8.0, 2)) for _ in range(stations)])
    roots = np.linalg.cholesky(covariances)
    users = 20_000
    errors = np.einsum("nij,unj->uni", roots, rng.standard_normal((users, stations, 2)))
    disagreeing = sum(not do_agree(one + np.array([40.0, -7.0]), covariances, SCALE) for one in errors)
    assert 5 <= disagreeing <= 40


def test_a_model_whose_errors_are_twice_as_large_as_predicted_is_believed_half_as_much() -> None:
    covariances = np.stack([covariance(1.0, 1.0)] * 2)
    apart = np.array([[0.0, 0.0], [8.0, 0.0]])
    assert not do_agree(apart, covariances, SCALE)
    assert do_agree(apart, covariances, 2 * SCALE)


def test_distance_counts_along_the_narrow_axis_and_not_along_the_wide_one() -> None:
    covariances = np.stack([covariance(30.0, 1.0)] * 2)
    along, across = TURN[:, 0], TURN[:, 1]
    assert do_agree(np.stack([0 * along, 40 * along]), covariances, SCALE)
    assert not do_agree(np.stack([0 * across, 40 * across]), covariances, SCALE)


def test_one_of_four_far_off_is_a_disagreement() -> None:
    covariances = np.stack([covariance(1.0, 1.0)] * 4)
    positions = np.array([[0.0, 0.0], [0.3, 0.2], [-0.5, 0.1], [60.0, 0.0]])
    assert not do_agree(positions, covariances, SCALE)
    assert do_agree(positions[:3], covariances[:3], SCALE)
    assert not do_agree(1e6 * positions, covariances, SCALE)


def test_the_circle_holds_the_circle_of_every_base_station() -> None:
    rng = np.random.default_rng(0)
    positions = np.array([[0.0, 0.0], [60.0, 10.0], [-5.0, 30.0]])
    covariances = np.stack([covariance(3.0, 1.0), covariance(2.0, 2.0), covariance(10.0, 0.5)])
    around = np.array([10.0, 5.0])
    radius = covering_radius(around, positions, covariances, SCALE)
    for position, one in zip(positions, covariances, strict=True):
        inside = position + SCALE * rng.uniform(-1, 1, (500, 1)) * (np.linalg.cholesky(one) @ _directions(rng)).T
        assert np.linalg.norm(inside - around, axis=1).max() <= radius
    farthest = np.linalg.norm(positions[1] - around) + SCALE * 2.0
    assert radius == pytest.approx(max(farthest, np.linalg.norm(positions[2] - around) + SCALE * 10.0))


def _directions(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, 500)
    return np.stack([np.cos(angle), np.sin(angle)])
