import numpy as np
import pytest

from models.baselines.matched_filter import delay_spectrum, find_first_arrival

BANDWIDTHS = [10e6, 20e6, 50e6]


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("antennas", [1, 8, 32])
@pytest.mark.parametrize("bins", [1.0, 7.31, 40.5, 120.9])
def test_a_single_path_is_placed_within_a_hundredth_of_the_resolution(
    make_channel, bandwidth: float, antennas: int, bins: float
) -> None:
    csi = make_channel([2e-6j], [bins / bandwidth], [0.4], antennas, 128, bandwidth)
    assert find_first_arrival(csi, bandwidth)[0] * bandwidth == pytest.approx(bins, abs=0.01)


@pytest.mark.parametrize("subcarriers", [32, 64, 256])
def test_the_number_of_subcarriers_is_free(make_channel, subcarriers: int) -> None:
    csi = make_channel([1.0], [3.3 / 20e6], [0.0], 4, subcarriers, 20e6)
    assert find_first_arrival(csi, 20e6)[0] * 20e6 == pytest.approx(3.3, abs=0.01)


def test_the_earlier_of_two_equal_paths_is_found(make_channel) -> None:
    """3 / bandwidth apart, from one direction: nothing but the delay tells them apart."""
    for phase in np.exp(1j * np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        csi = make_channel([1.0, phase], [5.0 / 20e6, 8.0 / 20e6], [0.2, 0.2], 8, 128, 20e6)
        assert find_first_arrival(csi, 20e6)[0] * 20e6 == pytest.approx(5.0, abs=0.1)


def test_a_first_path_15_db_below_its_echo_is_found(make_channel, with_noise) -> None:
    csi = make_channel([0.18, 1.0], [5.0 / 20e6, 10.0 / 20e6], [0.5, -0.3], 16, 128, 20e6)
    assert delay_spectrum(csi)[0].argmax() == 160  # the echo
    found = find_first_arrival(with_noise(csi, 20.0, 20), 20e6) * 20e6
    np.testing.assert_allclose(found, 5.0, atol=0.1)


def test_a_path_below_the_threshold_is_not_taken_for_the_first(make_channel) -> None:
    csi = make_channel([0.03, 1.0], [5.0 / 20e6, 10.0 / 20e6], [0.5, -0.3], 16, 128, 20e6)
    assert find_first_arrival(csi, 20e6)[0] * 20e6 == pytest.approx(10.0, abs=0.05)


def test_noise_is_not_taken_for_a_path(make_channel, with_noise) -> None:
    csi = make_channel([1.0], [60.0 / 20e6], [0.5], 8, 128, 20e6)
    for snr_db in (20.0, 0.0, -5.0):
        np.testing.assert_allclose(find_first_arrival(with_noise(csi, snr_db, 100), 20e6) * 20e6, 60.0, atol=0.6)


def test_paths_just_before_time_zero_are_negative_and_earlier_ones_wrap(make_channel) -> None:
    for delay, found in ((-0.2, -0.2), (-4.0, 124.0), (130.0, 2.0)):
        csi = make_channel([1.0], [delay / 50e6], [0.0], 2, 128, 50e6)
        assert find_first_arrival(csi, 50e6)[0] * 50e6 == pytest.approx(found, abs=0.01)


def test_snapshots_do_not_influence_each_other(make_channel) -> None:
    bins = np.linspace(1.0, 100.0, 70)
    csi = np.concatenate(
        [make_channel([10.0**-k], [b / 20e6], [0.1], 2, 128, 20e6) for k, b in zip(bins % 7, bins, strict=True)]
    )
    np.testing.assert_allclose(find_first_arrival(csi, 20e6) * 20e6, bins, atol=0.01)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_snapshots_without_a_finite_power_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite and not all zero"):
        find_first_arrival(np.full((1, 2, 16), value, np.complex64), 20e6)
