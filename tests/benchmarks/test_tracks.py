import numpy as np
import pytest

from benchmarks.tracks import covariance_of, smooth_best
from fingerpost.wire_shapes import Local2dPointUncertaintyEllipse
from service.locating.estimates import ellipse_of

SCALE_95 = np.sqrt(5.991)


@pytest.mark.parametrize("covariance", [[[4.0, 1.0], [1.0, 1.0]], [[1.0, -0.5], [-0.5, 3.0]], [[2.0, 0.0], [0.0, 2.0]]])
def test_the_covariance_of_an_ellipse_is_that_it_was_made_of(covariance: list[list[float]]) -> None:
    ellipse = ellipse_of(np.array(covariance), SCALE_95)
    stated = Local2dPointUncertaintyEllipse.model_validate(
        {
            "shape": "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE",
            "localOrigin": {"coordinateId": "c", "point": {"lat": 0.0, "lon": 0.0}},
            "point": {"x": 1.0, "y": 2.0},
            "uncertaintyEllipse": {
                "semiMajor": ellipse.semi_major,
                "semiMinor": ellipse.semi_minor,
                "orientationMajor": ellipse.orientation_deg,
            },
            "confidence": 95,
        }
    )
    np.testing.assert_allclose(covariance_of(stated), covariance, atol=0.05)  # whole degrees


def test_the_smoother_in_hindsight_halves_the_errors_of_users_who_stand_still() -> None:
    rng = np.random.default_rng(0)
    truth = np.broadcast_to(rng.uniform(20, 60, (200, 1, 2)), (200, 10, 2))
    noisy = truth + rng.normal(size=truth.shape)
    found = smooth_best(noisy, np.broadcast_to(np.eye(2), (200, 10, 2, 2)), truth)
    off = [float(np.linalg.norm(at - truth, axis=-1).mean()) for at in (noisy, found)]
    assert off[1] < 0.6 * off[0]
