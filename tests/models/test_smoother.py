import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact.smoother import ANYWHERE_M, Motion, smooth

MOTION = Motion(speed=1.5, wander=0.3, trust=1.0)


def run_recursions(
    estimates: NDArray[np.float64], covariances: NDArray[np.float64], times: NDArray[np.float64], motion: Motion
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A Kalman filter and the backward recursion of Rauch, Tung and Striebel over one track [t, 2]."""
    eye = np.eye(2)
    mean = np.concatenate([estimates.mean(axis=0), np.zeros(2)])
    wide = np.diag([ANYWHERE_M**2] * 2 + [motion.speed**2] * 2)
    seen = np.concatenate([eye, np.zeros((2, 2))], axis=1)  # position out of position and velocity
    filtered, predicted, moves = [], [], []
    for i, (z, noise) in enumerate(zip(estimates, covariances, strict=True)):
        if i:
            gap = times[i] - times[i - 1]
            move = np.block([[eye, gap * eye], [np.zeros((2, 2)), eye]])
            shaken = motion.wander**2 * np.block([[gap**3 / 3 * eye, gap**2 / 2 * eye], [gap**2 / 2 * eye, gap * eye]])
            mean, wide = move @ mean, move @ wide @ move.T + shaken
            moves.append(move)
        predicted.append((mean, wide))
        gain = wide @ seen.T @ np.linalg.inv(seen @ wide @ seen.T + noise)
        mean, wide = mean + gain @ (z - seen @ mean), wide - gain @ seen @ wide
        filtered.append((mean, wide))
    smoothed = [filtered[-1]]
    for i in reversed(range(len(estimates) - 1)):
        (mean, wide), (next_mean, next_wide) = filtered[i], predicted[i + 1]
        gain = wide @ moves[i].T @ np.linalg.inv(next_wide)
        later_mean, later_wide = smoothed[0]
        smoothed.insert(0, (mean + gain @ (later_mean - next_mean), wide + gain @ (later_wide - next_wide) @ gain.T))
    return np.array([m[:2] for m, _ in smoothed]), np.array([w[:2, :2] for _, w in smoothed])


def draw_track(rng: np.random.Generator, t: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    roots = rng.normal(size=(t, 2, 2))
    return rng.normal((40, -20), 5, (t, 2)), roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(2)


def test_the_smoother_is_kalmans_with_the_backward_recursion() -> None:
    rng = np.random.default_rng(1)
    estimates, covariances = draw_track(rng, 6)
    times = np.cumsum(rng.uniform(0.3, 2.0, 6))
    expected = run_recursions(estimates, covariances, times - times[0], MOTION)
    found = smooth(estimates[None], covariances[None], times[None], MOTION)
    np.testing.assert_allclose(found.positions[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(found.covariances[0], expected[1], atol=1e-4)


def test_a_single_snapshot_stays_where_it_is() -> None:
    estimates, covariances = draw_track(np.random.default_rng(2), 1)
    found = smooth(estimates[None], covariances[None], np.zeros((1, 1)), MOTION)
    np.testing.assert_allclose(found.positions[0], estimates, atol=1e-4)
    np.testing.assert_allclose(found.covariances[0], covariances, rtol=1e-4)


def test_a_straight_walk_is_found_through_the_noise() -> None:
    rng = np.random.default_rng(3)
    walk = np.array([10.0, 20.0]) + np.arange(10)[:, None] * np.array([1.0, 0.5])
    noisy = walk + rng.normal(0, 1.0, (200, 10, 2))
    ones = np.broadcast_to(np.eye(2), (200, 10, 2, 2))
    found = smooth(noisy, ones, np.broadcast_to(np.arange(10.0), (200, 10)), Motion(speed=2.0, wander=0.01, trust=1.0))
    off = found.positions - walk
    expected = np.sqrt(2 * 2 / 10)  # a line has two parameters on each axis
    assert np.sqrt(np.square(off).sum(-1).mean()) == pytest.approx(expected, rel=0.1)
    stated = np.trace(found.covariances, axis1=-2, axis2=-1).mean()
    assert np.square(off).sum(-1).mean() == pytest.approx(stated, rel=0.15)
