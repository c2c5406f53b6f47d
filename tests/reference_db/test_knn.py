import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db.knn import VARIANTS, Feature, every_variant, weighted_knn

FEATURES: list[Feature] = ["csi", "angle_delay", "angle_delay_fine"]


def _plane_wave(positions: NDArray[np.floating]) -> NDArray[np.complex64]:
    """One path from `[..., 2]`: a steering vector over 16 antennas times a delay ramp over 16 subcarriers."""
    distance = np.hypot(positions[..., 0], positions[..., 1])[..., None]
    angle = np.arctan2(positions[..., 1], positions[..., 0])[..., None]
    element = np.exp(-1j * np.pi * np.arange(16) * np.sin(angle))
    # The carrier's phase turns within centimetres: only angle and delay tell a place.
    ramp = np.exp(-2j * np.pi * distance / 3e8 * (3.5e9 + np.arange(16) * 2.5e6)) / distance
    return (element[..., :, None] * ramp[..., None, :]).astype(np.complex64)


@pytest.fixture
def grid() -> NDArray[np.float32]:
    east, north = np.meshgrid(np.arange(20, 50, 2), np.arange(-15, 15, 2))
    return np.stack([east.ravel(), north.ravel()], axis=1).astype(np.float32)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_user_on_a_fingerprint_is_found_there(grid: NDArray[np.float32], feature: Feature) -> None:
    users = grid[[3, 77, 140]]
    gain_and_phase = 1e-5 * np.exp(2.1j)
    found = weighted_knn(
        (_plane_wave(users) * gain_and_phase).astype(np.complex64),
        np.broadcast_to(_plane_wave(grid), (3, len(grid), 16, 16)),
        np.broadcast_to(grid, (3, len(grid), 2)),
        k=3,
        feature=feature,
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, users, atol=0.1)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_user_between_fingerprints_is_found_near(grid: NDArray[np.float32], feature: Feature) -> None:
    users = np.random.default_rng(0).uniform((25, -10), (45, 10), (50, 2))
    found = weighted_knn(
        _plane_wave(users),
        np.broadcast_to(_plane_wave(grid), (50, len(grid), 16, 16)),
        np.broadcast_to(grid, (50, len(grid), 2)),
        k=3,
        feature=feature,
    )
    assert np.linalg.norm(found - users, axis=1).mean() < 2


@pytest.mark.parametrize("feature", FEATURES)
def test_each_user_is_compared_with_its_own_neighbours(feature: Feature) -> None:
    random = np.random.default_rng(0)
    neighbours = random.uniform((20, -15), (50, 15), (9, 12, 2)).astype(np.float32)
    csi, neighbour_csi = _plane_wave(random.uniform(20, 40, (9, 2))), _plane_wave(neighbours)
    together = weighted_knn(csi, neighbour_csi, neighbours, 4, feature)
    alone = [weighted_knn(csi[[b]], neighbour_csi[[b]], neighbours[[b]], 4, feature)[0] for b in range(9)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("amplitude", [1e-15, 1e15])
def test_the_faintest_and_loudest_csi_give_the_same_answer(
    grid: NDArray[np.float32], feature: Feature, amplitude: float
) -> None:
    csi, neighbour_csi = _plane_wave(grid[:1] + 0.5), _plane_wave(grid[None])
    scaled = (csi * amplitude).astype(np.complex64), (neighbour_csi * amplitude).astype(np.complex64)
    expected = weighted_knn(csi, neighbour_csi, grid[None], 3, feature)
    np.testing.assert_allclose(weighted_knn(*scaled, grid[None], 3, feature), expected, atol=1e-2)


@pytest.mark.parametrize("feature", FEATURES)
def test_csi_without_power_is_refused(grid: NDArray[np.float32], feature: Feature) -> None:
    with pytest.raises(ValueError, match="all zero"):
        weighted_knn(np.zeros((1, 16, 16), np.complex64), _plane_wave(grid[None]), grid[None], 3, feature)


@pytest.mark.parametrize("k", [0, 226])
def test_k_must_be_among_the_neighbours(grid: NDArray[np.float32], k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        weighted_knn(_plane_wave(grid[:1]), _plane_wave(grid[None]), grid[None], k, "csi")


def test_every_variant_equals_each_asked_for_alone(grid: NDArray[np.float32]) -> None:
    users = grid[[3, 77]] + np.float32(0.4)
    asked = (
        _plane_wave(users),
        np.broadcast_to(_plane_wave(grid), (2, len(grid), 16, 16)),
        np.broadcast_to(grid, (2, len(grid), 2)),
    )
    together = every_variant(*asked)
    assert tuple(together) == VARIANTS
    for (feature, k), positions in together.items():
        np.testing.assert_array_equal(positions, weighted_knn(*asked, k, feature))
