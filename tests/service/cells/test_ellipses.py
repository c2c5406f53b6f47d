"""Ellipses from the model's covariance and the cell's own residuals."""

import numpy as np
import pytest

from service.cells.ellipses import CalibratedUsers, EllipseLevel, Ellipses, make_ellipses, measure_level

N = 900


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, residuals that are larger and longer in the east, and what a model predicts that knows half of it."""
    places = rng.uniform(0, 50, (n, 2)).astype(np.float32)
    scale = np.where(places[:, :1] > 25, [3.0, 0.5], [0.3, 0.3]) * rng.uniform(0.5, 1.5, (n, 1))
    predicted = np.einsum("nx,xy->nxy", np.square(scale), np.eye(2)) * rng.uniform(0.5, 2, (n, 1, 1))
    return places, scale * rng.standard_normal((n, 2)), predicted


@pytest.fixture(scope="module")
def ellipses() -> Ellipses:
    places, residuals, predicted = draw(np.random.default_rng(1), N)
    users = [CalibratedUsers(60.0, np.arange(N), residuals, predicted)]
    users.append(CalibratedUsers(10.0, np.arange(N), 4 * residuals, predicted))
    along = np.zeros(N, np.bool_)
    return make_ellipses(places, along, [measure_level(places, along, users, np.abs(residuals[:, 0]))])


def cover(ellipses: Ellipses, confidence: int, snr_db: float, blur: float) -> tuple[float, np.ndarray]:
    """The share inside, and the areas."""
    places, residuals, predicted = draw(np.random.default_rng(2), 2000)
    inside, areas = [], []
    for place, residual, covariance in zip(places, blur * residuals, predicted, strict=True):
        found = ellipses.covariance(0, place + residual, covariance)
        scale = ellipses.levels[0].scales(float(np.linalg.det(found)), snr_db).at(confidence).factor
        inside.append(residual @ np.linalg.solve(found, residual) <= scale**2)
        areas.append(np.pi * np.sqrt(np.linalg.det(found)) * scale**2)
    return float(np.mean(inside)), np.array(areas)


@pytest.mark.parametrize("confidence", [50, 68, 90, 95, 99])
@pytest.mark.parametrize(("snr_db", "blur"), [(60.0, 1.0), (45.0, 1.0), (10.0, 4.0), (5.0, 4.0)])
def test_an_ellipse_holds_the_stated_share_at_the_snr_of_the_user(
    ellipses: Ellipses, confidence: int, snr_db: float, blur: float
) -> None:
    assert cover(ellipses, confidence, snr_db, blur)[0] == pytest.approx(confidence / 100, abs=0.04)


def test_an_ellipse_is_far_smaller_where_errors_are_small(ellipses: Ellipses) -> None:
    areas = cover(ellipses, 95, 60.0, 1.0)[1]
    places = draw(np.random.default_rng(2), 2000)[0]
    assert np.median(areas[places[:, 0] < 24]) < 0.3 * np.median(areas[places[:, 0] > 26])


def test_ellipses_survive_json(ellipses: Ellipses) -> None:
    again = Ellipses.model_validate_json(ellipses.model_dump_json())
    assert again == ellipses
    place = np.array([10.0, 20.0])
    np.testing.assert_array_equal(again.covariance(0, place, np.eye(2)), ellipses.covariance(0, place, np.eye(2)))


def test_a_fix_that_is_far_off_hardly_agrees(ellipses: Ellipses) -> None:
    level = ellipses.levels[0]
    assert level.agreement(0.0) == 1.0
    assert 0 < level.agreement(1e6) < 0.05
    assert level.agreement(0.1) > level.agreement(1.0)


@pytest.mark.parametrize("known", [(0.5, 1.0, 1.0, 1.0, 3.0), (0.0, 2.0)])
def test_agreement_is_interpolated_between_the_quantiles(known: tuple[float, ...]) -> None:
    level = EllipseLevel.model_construct(agreements=known)
    for distance in (-1.0, 0.0, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0):
        below = float(np.interp(distance, known, np.linspace(0, 1, len(known))))
        assert level.agreement(distance) == pytest.approx(max(1 - below, 1 / (len(known) + 1)))


def test_the_residuals_around_the_nearest_place_count(ellipses: Ellipses) -> None:
    places = draw(np.random.default_rng(1), N)[0]
    for position in np.random.default_rng(3).uniform(-10, 60, (50, 2)).astype(np.float32):
        nearest = int(np.square(places - position).sum(axis=1).argmin())
        found = ellipses.covariance(0, position, np.zeros((2, 2)))
        np.testing.assert_array_equal(found, ellipses.covariance(0, places[nearest], np.zeros((2, 2))))
