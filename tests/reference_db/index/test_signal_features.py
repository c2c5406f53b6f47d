import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db import signal_feature
from reference_db.index.signal_features import SignalFeatures, describe_signals

Waves = NDArray[np.complex64]


@pytest.fixture
def csi() -> Waves:
    """Snapshots with three paths each: complex64 `[20, 8, 12]`."""
    random = np.random.default_rng(0)
    angles, delays, gains = (random.uniform(0, top, (20, 3, 1, 1)) for top in (2 * np.pi, np.pi, 1.0))
    antenna, subcarrier = np.arange(8)[:, None], np.arange(12)
    paths = gains * np.exp(1j * (angles * antenna - delays * subcarrier))
    return paths.sum(axis=1).astype(np.complex64)


def _halves(csi: NDArray[np.complexfloating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    blind, timed = np.split(signal_feature(csi.astype(np.complex64)), 2, axis=1)
    return blind, timed


def test_both_halves_have_unit_norm(csi: Waves) -> None:
    feature = signal_feature(csi)
    assert (feature.dtype, feature.shape) == (np.float32, (20, 2 * 8 * 12))
    for half in np.split(feature, 2, axis=1):
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-15, 3e14, np.exp(2.5j), -1e-7j])
def test_gain_and_common_phase_have_no_effect(csi: Waves, factor: complex) -> None:
    np.testing.assert_allclose(signal_feature((factor * csi).astype(np.complex64)), signal_feature(csi), atol=1e-4)


@pytest.mark.parametrize("ramp", [0.1, -0.7, 2.0])
def test_a_sampling_time_offset_changes_only_the_absolute_delays(csi: Waves, ramp: float) -> None:
    blind, timed = _halves(csi)
    late_blind, late_timed = _halves(csi * np.exp(-1j * ramp * np.arange(12)))
    np.testing.assert_allclose(late_blind, blind, atol=1e-3)
    assert np.linalg.norm(late_timed - timed, axis=1).min() > 0.05


def test_another_direction_changes_both_halves(csi: Waves) -> None:
    for half, turned in zip(_halves(csi), _halves(csi * np.exp(0.8j * np.arange(8)[:, None])), strict=True):
        assert np.linalg.norm(turned - half, axis=1).min() > 0.1


def test_a_snapshots_feature_does_not_depend_on_the_others(csi: Waves) -> None:
    many = np.tile(csi, (30, 1, 1))  # more than one chunk
    np.testing.assert_array_equal(signal_feature(many)[-1], signal_feature(csi[-1:])[0])


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_csi_that_is_zero_or_not_finite_is_refused(csi: Waves, value: float) -> None:
    csi[3] = value
    with pytest.raises(ValueError, match="finite and not all zero"):
        signal_feature(csi)


def test_no_csi_gives_no_features() -> None:
    assert signal_feature(np.empty((0, 8, 12), np.complex64)).shape == (0, 192)


def test_features_computed_on_demand_are_the_same(csi: Waves) -> None:
    made = SignalFeatures(csi)
    rows = np.array([7, 0, 19, 7])
    assert len(made) == 20
    np.testing.assert_array_equal(made[rows], signal_feature(csi)[rows])


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_the_snr_of_a_few_paths_is_estimated_from_the_bins_without_one(snr_db: float) -> None:
    rng = np.random.default_rng(4)
    angles, delays = rng.uniform(-2, 2, (50, 3, 1, 1)), rng.uniform(0, 2, (50, 3, 1, 1))
    a, k = np.arange(32)[:, None], np.arange(32)
    csi = np.exp(1j * (angles * a - delays * k)).sum(axis=1)
    sigma = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True) / 2) * 10 ** (-snr_db / 20)
    noise = sigma * (rng.standard_normal((50, 32, 32)) + 1j * rng.standard_normal((50, 32, 32)))
    found = describe_signals((csi + noise).astype(np.complex64)).snr_db
    assert abs(np.median(found) - snr_db) < 1.5


def test_noise_hardly_moves_a_feature_of_a_few_paths() -> None:
    rng = np.random.default_rng(5)
    a, k = np.arange(32)[:, None], np.arange(32)
    paths = [np.exp(1j * (u * a - t * k)) for u, t in ((0.5, 0.3), (-1.2, 0.9))]
    csi, other = paths[0] + 0.3 * paths[1], 0.3 * paths[0] + paths[1]
    noise = 0.2 * (rng.standard_normal((32, 32)) + 1j * rng.standard_normal((32, 32)))
    clean, noisy, elsewhere = signal_feature(np.stack([csi, csi + noise, other]).astype(np.complex64))
    assert np.linalg.norm(noisy - clean) < 0.5 * np.linalg.norm(elsewhere - clean)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 64), (64, 1)])
def test_the_smallest_radios_have_finite_features(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    csi = (rng.standard_normal((20, *shape)) + 1j * rng.standard_normal((20, *shape))).astype(np.complex64)
    features, snr_db = describe_signals(csi)
    assert np.isfinite(features).all()
    assert ((snr_db >= -20) & (snr_db <= 60)).all()
