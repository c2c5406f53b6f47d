import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db.knn import (
    FEATURES,
    VARIANTS,
    Feature,
    csi_distances,
    csi_distances_by_feature,
    knn_baselines,
    knn_by_variant,
    weighted_knn,
)

# "aligned" removes the mean delay. With a single path it keeps the direction of a user but not the range.
PLACING = [feature for feature in FEATURES if feature != "aligned"]


def _plane_wave(positions: NDArray[np.floating]) -> NDArray[np.complex64]:
    """One path from `[..., 2]`: a steering vector over 16 antennas times a delay ramp over 16 subcarriers."""
    distance = np.hypot(positions[..., 0], positions[..., 1])[..., None]
    angle = np.arctan2(positions[..., 1], positions[..., 0])[..., None]
    element = np.exp(-1j * np.pi * np.arange(16) * np.sin(angle))
    # The carrier phase changes within centimetres, so only angle and delay carry the position.
    ramp = np.exp(-2j * np.pi * distance / 3e8 * (3.5e9 + np.arange(16) * 2.5e6)) / distance
    return (element[..., :, None] * ramp[..., None, :]).astype(np.complex64)


@pytest.fixture
def grid() -> NDArray[np.float32]:
    east, north = np.meshgrid(np.arange(20, 50, 2), np.arange(-15, 15, 2))
    return np.stack([east.ravel(), north.ravel()], axis=1).astype(np.float32)


@pytest.mark.parametrize("feature", PLACING)
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


@pytest.mark.parametrize("feature", PLACING)
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
def test_very_weak_and_very_strong_csi_give_the_same_estimate(
    grid: NDArray[np.float32], feature: Feature, amplitude: float
) -> None:
    csi, neighbour_csi = _plane_wave(grid[:1] + 0.5), _plane_wave(grid[None])
    scaled = (csi * amplitude).astype(np.complex64), (neighbour_csi * amplitude).astype(np.complex64)
    expected = weighted_knn(csi, neighbour_csi, grid[None], 3, feature)
    np.testing.assert_allclose(weighted_knn(*scaled, grid[None], 3, feature), expected, atol=1e-2)


@pytest.mark.parametrize("feature", FEATURES)
def test_all_zero_csi_is_refused(grid: NDArray[np.float32], feature: Feature) -> None:
    with pytest.raises(ValueError, match="all zero"):
        weighted_knn(np.zeros((1, 16, 16), np.complex64), _plane_wave(grid[None]), grid[None], 3, feature)


@pytest.mark.parametrize("k", [0, 226])
def test_k_must_be_among_the_neighbours(grid: NDArray[np.float32], k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        weighted_knn(_plane_wave(grid[:1]), _plane_wave(grid[None]), grid[None], k, "csi")


def test_every_variant_equals_weighted_knn(grid: NDArray[np.float32]) -> None:
    users = grid[[3, 77]] + np.float32(0.4)
    csi, reference_csi = _plane_wave(users), _plane_wave(grid)
    candidates = np.zeros((2, len(grid)), bool)
    candidates[0, :60] = candidates[1, 40:100] = True
    together = knn_by_variant(csi_distances_by_feature(csi, reference_csi), grid, candidates)
    assert tuple(together) == VARIANTS
    neighbours = np.stack([np.flatnonzero(row) for row in candidates])
    for (feature, k), positions in together.items():
        alone = weighted_knn(csi, reference_csi[neighbours], grid[neighbours], k, feature)
        np.testing.assert_allclose(positions, alone, atol=1e-3)


def test_without_candidates_the_whole_cell_is_searched(grid: NDArray[np.float32]) -> None:
    distances = csi_distances_by_feature(_plane_wave(grid[:3] + np.float32(0.4)), _plane_wave(grid))
    everything = knn_by_variant(distances, grid, np.ones((3, len(grid)), bool))
    for variant, positions in knn_by_variant(distances, grid).items():
        np.testing.assert_array_equal(positions, everything[variant])


def test_a_user_with_too_few_candidates_is_refused(grid: NDArray[np.float32]) -> None:
    candidates = np.ones((2, len(grid)), bool)
    candidates[1, 11:] = False
    with pytest.raises(ValueError, match="1 to 11"):
        knn_by_variant(csi_distances_by_feature(_plane_wave(grid[:2]), _plane_wave(grid)), grid, candidates)


def test_baselines_use_a_coarse_position_in_every_way(grid: NDArray[np.float32]) -> None:
    users = grid[[3, 77]] + np.float32(0.4)
    coarse = users + np.float32([[3.0, 0.0], [0.0, -2.0]])
    distances = csi_distances_by_feature(_plane_wave(users), _plane_wave(grid))
    baselines = knn_baselines(distances, grid, coarse, 3.0, 20)
    away = np.linalg.norm(grid - coarse[:, None], axis=-1)
    by_distance = np.sort(away, axis=1)
    for scope, allowed in {
        "of the cell": None,
        "of the 20 nearest": away <= by_distance[:, 19:20],
        "within 3 sigma": away <= np.maximum(9.0, by_distance[:, 19:20]),
    }.items():
        for (feature, k), points in knn_by_variant(distances, grid, allowed).items():
            found = baselines[f"{feature} k={k} {scope}"]
            np.testing.assert_array_equal(found, points)
            np.testing.assert_allclose(
                baselines[f"{feature} k={k} {scope}, 75% fix"], 0.25 * found + 0.75 * coarse, atol=1e-3
            )
    assert set(knn_baselines(distances, grid, None, 0.0, 20)) == {f"{f} k={k} of the cell" for f, k in VARIANTS}


@pytest.mark.parametrize(("feature", "blind"), [("angle_delay_fine", False), ("aligned", True)])
def test_only_the_aligned_feature_ignores_a_sampling_time_offset(
    grid: NDArray[np.float32], feature: Feature, blind: bool
) -> None:
    # Two paths each, because a sampling-time offset keeps their relative delay.
    csi = _plane_wave(grid) + 0.5 * _plane_wave(grid[::-1] + np.float32(7))
    shifted = (csi * np.exp(-2j * np.pi * 20e-9 * 2.5e6 * np.arange(16))).astype(np.complex64)
    change = np.abs(csi_distances(shifted, csi, feature) - csi_distances(csi, csi, feature)).max()
    assert (change < 1e-3) == blind
