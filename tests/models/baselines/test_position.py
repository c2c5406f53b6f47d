import math

import numpy as np
import pytest

from models.baselines.position import fuse_positions, position_from

STATIONS = np.array([[0.0, 0.0], [80.0, 10.0], [30.0, 90.0], [-40.0, 50.0]])
YAW = np.array([0.7, 2.5, -1.6, -0.2])
USER = np.array([35.0, 30.0])


def see_user_from(users: np.ndarray) -> np.ndarray:
    """The exact positions of users [n, 2] relative to each station: forward and left, [n, 4, 2]."""
    east, north = np.moveaxis(users[:, None] - STATIONS, -1, 0)
    return np.stack([east * np.cos(YAW) + north * np.sin(YAW), north * np.cos(YAW) - east * np.sin(YAW)], axis=-1)


def repeat(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(STATIONS, (n, 1, 1)), np.tile(YAW, (n, 1))


def test_a_position_is_ground_distance_and_azimuth() -> None:
    distance = math.sqrt(40**2 + 30**2 + 12**2)
    angle = math.atan2(-30, 40)
    np.testing.assert_allclose(position_from(np.array([distance]), np.array([angle]), 12.0), [[40, -30]])


def test_a_range_below_the_height_is_under_the_array() -> None:
    np.testing.assert_array_equal(position_from(np.array([5.0]), np.array([0.3]), 12.0), [[0, 0]])


def test_exact_positions_of_several_stations_join_exactly() -> None:
    users = np.random.default_rng(1).uniform(0, 60, (20, 2))
    np.testing.assert_allclose(fuse_positions(*repeat(20), see_user_from(users)), users, atol=1e-6)


@pytest.mark.parametrize("wrong", range(4))
def test_one_station_that_sees_an_echo_does_not_spoil_three_that_see_the_user(wrong: int) -> None:
    positions = see_user_from(USER[None])
    positions[0, wrong] += [20.0, -15.0]
    fused = fuse_positions(*repeat(1), positions)[0]
    assert np.linalg.norm(fused - USER) < 0.05
    assert np.linalg.norm(see_user_from(USER[None])[0, wrong] - positions[0, wrong]) == pytest.approx(25.0)


def test_a_range_counts_across_the_bearing_of_another_station() -> None:
    """Two stations at right angles: each is wrong by a metre along its ray, where the other has the sharper bearing."""
    stations = np.array([[[0.0, 0.0], [50.0, -50.0]]])
    yaw = np.array([[0.0, np.pi / 2]])
    positions = np.array([[[51.0, 0.0], [51.0, 0.0]]])  # the user is at 50, 0
    fused = fuse_positions(stations, yaw, positions)[0]
    np.testing.assert_allclose(fused, [50.0, 0.0], atol=0.25)


def test_stations_without_a_position_are_left_out() -> None:
    positions = see_user_from(np.stack([USER, USER, USER]))
    positions[1, [0, 2]] = np.nan
    positions[2] = np.nan
    fused = fuse_positions(*repeat(3), positions)
    np.testing.assert_allclose(fused[:2], [USER, USER], atol=1e-6)
    assert np.isnan(fused[2]).all()


def test_noise_is_averaged_out() -> None:
    rng = np.random.default_rng(2)
    users = rng.uniform(10, 50, (300, 2))
    distance = np.linalg.norm(see_user_from(users), axis=-1) + rng.normal(0, 1.0, (300, 4))
    forward, left = np.moveaxis(see_user_from(users), -1, 0)
    angle = np.arctan2(left, forward) + rng.normal(0, np.radians(0.5), (300, 4))
    positions = position_from(distance, angle, 0.0)
    alone = np.linalg.norm(positions - see_user_from(users), axis=-1).mean(axis=0).min()
    assert np.linalg.norm(fuse_positions(*repeat(300), positions) - users, axis=1).mean() < 0.6 * alone
