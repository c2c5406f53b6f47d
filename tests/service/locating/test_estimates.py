"""Ellipses of covariances, and the uncertainty that answers state."""

import math

import numpy as np
import pytest

from models.artifact import Scales
from service.errors import EstimateNotFinite
from service.locating.estimates import Uncertainty, check_position, ellipse_of


def covariance_of(major: float, minor: float, azimuth_deg: float) -> np.ndarray:
    """Of an ellipse with these half axes in metres, the major one in degrees clockwise from north."""
    azimuth = math.radians(azimuth_deg)
    axes = np.array([[math.sin(azimuth), math.cos(azimuth)], [math.cos(azimuth), -math.sin(azimuth)]])
    return axes @ np.diag([major**2, minor**2]) @ axes.T


@pytest.mark.parametrize("azimuth", [0, 1, 30, 45, 89, 90, 91, 135, 179])
def test_the_orientation_is_clockwise_from_north(azimuth: int) -> None:
    ellipse = ellipse_of(covariance_of(3.0, 1.0, azimuth), 2.0)
    assert ellipse == pytest.approx((6.0, 2.0, azimuth))


def test_a_circle_has_the_orientation_0_and_exactly_its_radius() -> None:
    assert Uncertainty.circle(0.3, 95).around(95) == ((0.3, 0.3, 0), 95)


def test_a_covariance_that_is_almost_a_line_has_no_negative_axis() -> None:
    shared = np.nextafter(2.0, 3.0)
    ellipse = ellipse_of(np.array([[2.0, shared], [shared, 2.0]]), 1.0)
    assert ellipse == pytest.approx((2.0, 0.0, 45))


def test_the_axes_are_those_of_the_eigenvalues() -> None:
    for factor in np.random.default_rng(0).standard_normal((200, 2, 2)):
        covariance = factor @ factor.T
        variances, axes = np.linalg.eigh(covariance)
        ellipse = ellipse_of(covariance, 1.0)
        assert ellipse[:2] == pytest.approx(np.sqrt(variances[::-1]), rel=1e-6)
        azimuth = math.radians(ellipse.orientation_deg)
        along = abs(axes[:, 1] @ (math.sin(azimuth), math.cos(azimuth)))
        assert along > math.cos(math.radians(0.6))


def test_a_confidence_that_is_not_known_is_answered_by_the_nearest() -> None:
    uncertainty = Uncertainty(np.eye(2), Scales(factors={80: 1.0, 95: 2.0}))
    assert uncertainty.around(50) == ((1.0, 1.0, 0), 80)
    assert uncertainty.around(99) == ((2.0, 2.0, 0), 95)
    ellipse, confidence = uncertainty.around(90)
    assert confidence == 90
    assert 1.0 < ellipse.semi_major < 2.0


@pytest.mark.parametrize("variance", [math.nan, math.inf, 0.0])
def test_a_covariance_that_is_none_is_refused(variance: float) -> None:
    with pytest.raises(EstimateNotFinite):
        ellipse_of(np.diag([variance, variance]), 1.0)


@pytest.mark.parametrize("east", [math.nan, math.inf, -1e6])
def test_a_position_that_no_cell_reaches_is_refused(east: float) -> None:
    with pytest.raises(EstimateNotFinite):
        check_position(np.array([east, 0.0]))
