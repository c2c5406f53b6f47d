import math

import numpy as np
import pytest

from models.baselines.music import (
    estimate_first_angle,
    estimate_strongest_angle,
    find_direction,
    off_broadside,
    smooth_covariance,
)
from reference_db.path_features import SPEED_OF_LIGHT

ANTENNAS = [8, 16, 32]


@pytest.mark.parametrize("antennas", ANTENNAS)
@pytest.mark.parametrize("degrees", [-75.0, -20.3, 0.0, 1.7, 60.0])
def test_a_single_path_is_found_within_a_hundredth_of_a_degree_in_both_forms(
    make_channel, antennas: int, degrees: float
) -> None:
    csi = make_channel([1e-6], [7.31 / 20e6], [math.sin(math.radians(degrees))], antennas, 128, 20e6)
    for angle in (
        estimate_first_angle(csi, 0.5, 20e6, 0.0),
        estimate_strongest_angle(csi, 0.5, 20e6, 0.0),
    ):
        assert math.degrees(angle[0]) == pytest.approx(degrees, abs=0.01 / math.cos(math.radians(degrees)))


@pytest.mark.parametrize("antennas", ANTENNAS)
def test_two_coherent_paths_with_one_delay_are_resolved(make_channel, antennas: int) -> None:
    """Two beamwidths apart, the weaker by 3 dB: a beam alone would be pulled aside."""
    cone = [0.1, 0.1 + 4 / antennas]
    for phase in np.exp(1j * np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        csi = make_channel([1.0, 0.7 * phase], [5 / 20e6, 5 / 20e6], cone, antennas, 128, 20e6)
        assert find_direction(csi[..., :1], 0.5)[0] == pytest.approx(cone[0], abs=0.005)


@pytest.mark.parametrize("antennas", ANTENNAS)
def test_the_first_path_is_found_although_its_echo_is_ten_db_stronger(make_channel, with_noise, antennas) -> None:
    csi = make_channel([0.3, 1.0], [5.0 / 20e6, 10.0 / 20e6], [0.5, -0.3], antennas, 128, 20e6)
    csi = with_noise(csi, 20.0, 20)
    first = estimate_first_angle(csi, 0.5, 20e6, 0.0)
    np.testing.assert_allclose(np.sin(first), 0.5, atol=0.3 / antennas)
    np.testing.assert_allclose(np.sin(estimate_strongest_angle(csi, 0.5, 20e6, 0.0)), -0.3, atol=0.3 / antennas)


@pytest.mark.parametrize("antennas", ANTENNAS)
def test_the_first_path_is_found_although_an_echo_of_four_times_its_power_follows_within_the_pulse(
    make_channel, antennas: int
) -> None:
    for phase in np.exp(1j * np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        csi = make_channel([0.5, phase], [5.0 / 20e6, 5.9 / 20e6], [0.5, -0.3], antennas, 128, 20e6)
        assert np.sin(estimate_strongest_angle(csi, 0.5, 20e6, 0.0)) == pytest.approx(-0.3, abs=0.1)
        assert np.sin(estimate_first_angle(csi, 0.5, 20e6, 0.0)) == pytest.approx(0.5, abs=0.02)


def test_smoothing_separates_coherent_paths_and_runs_forward_and_backward(make_channel) -> None:
    csi = make_channel([1.0, 0.7j], [0.0, 0.0], [0.1, 0.6], 8, 1, 20e6)
    assert np.linalg.matrix_rank(csi[0] @ csi[0].conj().T, tol=1e-3) == 1
    covariance = smooth_covariance(csi)[0]
    assert np.linalg.matrix_rank(covariance, tol=1e-3) == 2
    np.testing.assert_allclose(covariance, covariance.conj().T, atol=1e-5)
    np.testing.assert_allclose(covariance, covariance[::-1, ::-1].conj(), atol=1e-5)


def test_the_spacing_scales_the_cone(make_channel) -> None:
    csi = make_channel([1.0], [5 / 20e6], [0.3], 8, 64, 20e6)
    assert find_direction(csi, 0.25)[0] == pytest.approx(0.6, abs=1e-3)


def test_the_height_of_the_array_gives_the_azimuth_of_users_below_it(make_channel) -> None:
    """User 30 m forward, 20 m to the left, 15 m below."""
    distance = math.sqrt(30**2 + 20**2 + 15**2)
    csi = make_channel([1.0], [distance / SPEED_OF_LIGHT], [20 / distance], 16, 128, 50e6)
    angle = estimate_first_angle(csi, 0.5, 50e6, 15.0)
    assert math.degrees(angle[0]) == pytest.approx(math.degrees(math.atan2(20, 30)), abs=0.05)


def test_a_range_below_the_height_says_nothing_of_the_elevation() -> None:
    cone, distance = np.array([0.5, 0.5, -1.2]), np.array([9.0, -3.0, 50.0])
    np.testing.assert_allclose(off_broadside(cone, distance, 10.0), [math.asin(0.5), math.asin(0.5), -math.pi / 2])
