import numpy as np
import pytest

from models.artifact import Scales
from service.cells.residuals import left_out_covariances, lie_along_lines, local_covariances, mahalanobis, stretches


def sizes(groups: np.ndarray) -> np.ndarray:
    """How many fingerprints belong to the group of each."""
    return np.bincount(groups)[groups]


def nearest_of_others(positions: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How far the nearest fingerprint of another group is away, of 300 fingerprints."""
    some = np.random.default_rng(0).permutation(len(positions))[:300]
    away = np.hypot(*(positions[some, None] - positions).transpose(2, 0, 1))
    away[groups[some, None] == groups] = np.inf
    return away.min(axis=1)


def test_covariance_around_a_place_is_that_of_the_errors_there() -> None:
    random = np.random.default_rng(0)
    places = random.uniform(-50, 50, (2000, 2))
    west = places[:, 0] < 0
    spread = np.where(west[:, None], (3.0, 0.5), (0.5, 1.0))
    residuals = spread * random.standard_normal(places.shape)
    found = local_covariances(residuals, places, np.array([[-40.0, 0.0], [40.0, 0.0]]))
    # Of 75 parts, 60 are from around the place.
    assert np.sqrt(found[0, 0, 0]) == pytest.approx(3.0, rel=0.25)
    assert np.sqrt(found[0, 1, 1]) == pytest.approx(0.65, rel=0.3)
    assert np.sqrt(found[1, 0, 0]) < 1.3
    assert found[0, 0, 0] > 4 * found[1, 0, 0]


def test_scales_of_mahalanobis_distances_cover_users_between_the_fingerprints() -> None:
    random = np.random.default_rng(1)
    places = random.uniform(-50, 50, (3000, 2))
    residuals = np.where(places[:, :1] < 0, 4.0, 0.5) * random.standard_normal(places.shape)
    known, users = slice(0, 500), slice(500, None)
    own = mahalanobis(residuals[known], left_out_covariances(residuals[known], places[known]))
    scales = Scales.of_distances(own)
    assert scales is not None
    covariances = local_covariances(residuals[known], places[known], places[users])
    for confidence in (50, 80, 95):
        inside = mahalanobis(residuals[users], covariances) <= scales.at(confidence).factor
        assert inside.mean() == pytest.approx(confidence / 100, abs=0.05)


def test_errors_along_one_street_alone_have_a_spread_across_it_too() -> None:
    residuals = np.column_stack([np.random.default_rng(0).standard_normal(100), np.zeros(100)])
    (found,) = local_covariances(residuals, np.zeros((100, 2)), np.zeros((1, 2)))
    assert 0.01 < found[1, 1] < found[0, 0]


@pytest.mark.parametrize("residuals", [np.zeros((1, 2)), np.zeros((300, 2)), np.full((2, 2), 1e5)])
def test_covariance_is_always_that_of_an_ellipse(residuals: np.ndarray) -> None:
    found = local_covariances(residuals, np.zeros_like(residuals), np.zeros((3, 2)))
    assert found.shape == (3, 2, 2)
    assert np.isfinite(found).all()
    assert np.linalg.eigvalsh(found).min() > 0


@pytest.mark.parametrize("times", [0.0, 1.7e9])
@pytest.mark.parametrize("n", [50, 2000, 20000])
def test_fingerprints_scattered_at_random_are_left_out_one_by_one(n: int, times: float) -> None:
    positions = np.random.default_rng(0).uniform(-30, 30, (n, 2)).astype(np.float32)
    assert (sizes(stretches(positions, np.full(n, times))) == 1).mean() > 0.97


def test_scattered_fingerprints_that_were_measured_one_after_the_other_are_left_out_one_by_one() -> None:
    positions = np.random.default_rng(0).uniform(-30, 30, (2000, 2)).astype(np.float32)
    groups = stretches(positions, 1.7e9 + np.arange(2000.0))
    assert (sizes(groups) == 1).mean() > 0.95


def test_a_walked_grid_keeps_its_neighbours() -> None:
    east, north = np.meshgrid(np.arange(40), np.arange(40))
    positions = np.column_stack([east.ravel(), north.ravel()]).astype(np.float32)
    assert (sizes(stretches(positions, np.zeros(1600))) == 1).all()


@pytest.mark.parametrize("step", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("times", ["known", "unknown"])
def test_neighbours_on_a_drive_are_left_out_together(step: float, times: str) -> None:
    along = np.arange(0, 200, step)
    positions = np.column_stack([along, 3 * np.sin(along / 15)]).astype(np.float32)
    groups = stretches(positions, np.zeros(len(along)) if times == "unknown" else 1.7e9 + along / 10)
    away = nearest_of_others(positions, groups)
    assert np.median(away) > 0.7
    assert away.max() < 4.5  # and no more than that
    assert lie_along_lines(positions, groups).mean() > 0.95


@pytest.mark.parametrize("step", [0.5, 1.5])
def test_a_receiver_that_samples_rarely_is_told_by_its_times(step: float) -> None:
    along = np.arange(0, 300, step)
    positions = np.column_stack([along, np.zeros_like(along)]).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(len(along))
    groups = stretches(positions[shuffled], 1.7e9 + along[shuffled] / 10)
    assert (sizes(groups) * step).max() <= 4.0 + step
    assert np.median(nearest_of_others(positions[shuffled], groups)) >= 1.0


@pytest.mark.parametrize("apart", [2.0, 10.0])
@pytest.mark.parametrize("snapshots", [2, 5, 100])
@pytest.mark.parametrize("scatter", [0.0, 0.01])
def test_snapshots_at_one_place_are_left_out_together(snapshots: int, apart: float, scatter: float) -> None:
    east, north = np.meshgrid(apart * np.arange(12), apart * np.arange(12))
    places = np.column_stack([east.ravel(), north.ravel()])
    positions = np.repeat(places, snapshots, axis=0)
    positions = (positions + scatter * np.random.default_rng(0).standard_normal(positions.shape)).astype(np.float32)
    groups = stretches(positions, np.zeros(len(positions)))
    away = nearest_of_others(positions, groups)
    assert (away > 0.5 * apart).mean() > 0.9
    assert not lie_along_lines(positions, groups).any()


def test_errors_along_a_line_count_in_all_directions_alike() -> None:
    residuals = np.column_stack([np.random.default_rng(0).standard_normal(100), np.zeros(100)])
    (found,) = local_covariances(residuals, np.zeros((100, 2)), np.zeros((1, 2)), np.ones(100, np.bool_))
    assert found == pytest.approx(np.eye(2) * found[0, 0])
    assert 2 * found[0, 0] == pytest.approx(np.square(residuals).sum(axis=1).mean(), rel=0.3)


def test_a_residual_has_no_share_in_its_own_covariance() -> None:
    residuals, places = np.zeros((100, 2)), np.zeros((100, 2))
    residuals[7] = 1000.0, 0.0
    assert np.trace(left_out_covariances(residuals, places)[7]) < 1e-3
    assert np.trace(local_covariances(residuals, places, places[:1])[0]) > 1000


def test_groups_are_numbered_from_zero_without_gaps() -> None:
    positions = np.zeros((5, 2), np.float32)
    positions[3:] = 50, 60
    assert stretches(positions, np.zeros(5)).tolist() == [0, 0, 0, 1, 1]
    assert stretches(positions[:0], np.zeros(0)).tolist() == []
