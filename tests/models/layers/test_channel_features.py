import math

import numpy as np
import pytest

from models.artifact.channel_transform import (
    ABSOLUTE_DELAYS,
    BINS_PER_RESOLUTION,
    DESCRIPTION,
    DIRECTIONS,
    ELEVATION_DELAYS,
    ELEVATIONS,
    RELATIVE_DELAYS,
    SEARCHED_DELAYS,
    STRONGEST_SHARPNESS,
    ChannelTransform,
)
from models.layers.channel_features import (
    ABSOLUTE,
    ABSOLUTE_EXPONENT,
    ABSOLUTE_GAIN,
    FEATURES,
    FLOOR,
    NOISE_FACTOR,
    POWER_NORMALISATION_EXPONENT,
    RELATIVE_GAIN,
    SPECTRA,
)
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT
from tests.models.one_path import Described, Path, describe, observe, peak

LINEAR = AntennaArray(rows=1, columns=32)
RADIOS = {
    "32x1, 40 MHz": (LINEAR, 32, 40e6),
    "64x1, 100 MHz": (AntennaArray(rows=1, columns=64), 64, 100e6),
    "8x8, 100 MHz": (AntennaArray(rows=8, columns=8), 64, 100e6),
    "4x4, two polarisations, 20 MHz": (AntennaArray(rows=4, columns=4, polarisations=2), 48, 20e6),
    "8x1, spacing 0.6": (AntennaArray(rows=1, columns=8, spacing=0.6), 40, 30e6),
}
ORIGIN = 200e-9
STRONGEST = Path(ORIGIN + 100e-9, azimuth=0.45, elevation=-0.35, gains=(1.0, 0.5j))
ECHO = Path(ORIGIN + 350e-9, azimuth=-0.3, elevation=0.2, gains=(0.3, 0.2j))

radios = pytest.mark.parametrize("radio", RADIOS.values(), ids=RADIOS.keys())


def make_transform(radio, *delays: float, csi: np.ndarray | None = None) -> ChannelTransform:
    """Of a cell whose users have a single path with these delays."""
    array, subcarriers, bandwidth = radio
    if csi is None:
        csi = np.stack([observe(*radio, Path(delay)) for delay in delays or (ORIGIN,)])
    return ChannelTransform.of(array, subcarriers, bandwidth, 3.5e9, None, 0.0, csi)


def noise(radio, snapshots: int = 5, seed: int = 4) -> np.ndarray:
    array, subcarriers, _ = radio
    parts = np.random.default_rng(seed).normal(size=(2, snapshots, array.antennas, subcarriers))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def expect_features(csi: np.ndarray, radio, channel: ChannelTransform) -> np.ndarray:
    """The features of noise by plain complex sums, with the level and the delay origin of the cell's transform."""
    array, subcarriers, bandwidth = radio
    scale = float(channel.scale[0])
    H = csi.astype(complex).reshape(len(csi), array.polarisations, array.rows, array.columns, subcarriers) / scale
    power = np.square(np.abs(H)).mean((1, 2, 3, 4))
    H = H / np.sqrt(power)[:, None, None, None, None]

    def window(size: int) -> np.ndarray:
        some = np.hamming(size) if size > 1 else np.ones(1)
        return some / some.sum()

    def beams(elements: int, bins: int) -> np.ndarray:
        """[bins, elements]"""
        cosines = -1 + 2 * np.arange(bins) / bins
        middle = (np.arange(elements) - (elements - 1) / 2) * array.spacing
        return np.exp(-2j * np.pi * np.outer(cosines, middle)) * window(elements)

    def filters(seconds: np.ndarray) -> np.ndarray:
        """[subcarriers, delays]"""
        hertz = np.arange(subcarriers) * bandwidth / subcarriers
        return np.exp(2j * np.pi * np.outer(hertz, seconds)) * window(subcarriers)[:, None]

    period = subcarriers / bandwidth
    by_direction = np.einsum("uc,tprcs->tprus", beams(array.columns, DIRECTIONS), H)
    searched = period * np.arange(SEARCHED_DELAYS) / SEARCHED_DELAYS
    sparse = searched[:: SEARCHED_DELAYS // max(32, 1 << (subcarriers - 1).bit_length())]
    over_delays = by_direction @ filters(sparse)  # [t, p, r, u, delays]
    strongest = np.square(np.abs(over_delays)).sum((1, 2, 4)).argmax(-1)
    beam = by_direction[np.arange(len(csi)), :, :, strongest]  # [t, p, r, s]
    found = np.square(np.abs(beam @ filters(searched))).sum((1, 2))
    weights = (found / found.max(1, keepdims=True)) ** STRONGEST_SHARPNESS
    delay = np.angle((weights * np.exp(2j * np.pi * searched / period)).sum(1)) / (2 * np.pi) * period
    origin = float(channel.delay[0]) * period

    step = 1 / BINS_PER_RESOLUTION / bandwidth
    back = np.exp(2j * np.pi * np.outer(delay, np.arange(subcarriers) * bandwidth / subcarriers))  # [t, s]

    def spectrum(rows: np.ndarray, delays: tuple[int, int], after: float) -> np.ndarray:
        return np.square(np.abs(rows @ filters(after + step * np.arange(*delays)))).mean((1, 2))  # [t, u, delays]

    def without_noise(power: np.ndarray) -> np.ndarray:
        most = 1 + (NOISE_FACTOR - 1) / np.sqrt(array.lines)
        return np.maximum(power - most * power.mean(1).min(1)[:, None, None], 0)

    absolute = without_noise(spectrum(by_direction, ABSOLUTE_DELAYS, origin))
    relative = without_noise(spectrum(by_direction * back[:, None, None, None], RELATIVE_DELAYS, 0.0))
    by_elevation = np.einsum("vr,tprs->tpvs", beams(array.rows, ELEVATIONS), beam * back[:, None, None])
    elevation = np.square(np.abs(by_elevation @ filters(step * np.arange(*ELEVATION_DELAYS)))).mean(1)

    gain = power[:, None, None] ** (1 - 2 * POWER_NORMALISATION_EXPONENT)
    after = (delay - origin + period / 2) % period - period / 2
    return np.concatenate(
        [
            ABSOLUTE_GAIN * ((absolute * gain + FLOOR) ** ABSOLUTE_EXPONENT).reshape(len(csi), -1),
            RELATIVE_GAIN * ((relative + FLOOR) ** 0.25).reshape(len(csi), -1),
            RELATIVE_GAIN * ((elevation + FLOOR) ** 0.25).reshape(len(csi), -1),
            np.stack([np.log(power) / 2, after * SPEED_OF_LIGHT], axis=1),
        ],
        axis=1,
    )


@pytest.mark.parametrize(
    "radio",
    [*RADIOS.values(), (AntennaArray(rows=1, columns=1), 36, 20e6), (AntennaArray(rows=4, columns=1), 32, 40e6)],
    ids=[*RADIOS, "one antenna", "one column"],
)
def test_features_are_plain_complex_sums(radio) -> None:
    csi = noise(radio) * np.float32([1, 3, 0.2, 1, 10])[:, None, None]
    channel = make_transform(radio, csi=csi)
    ours = describe(channel, csi)
    assert ours.shape == (5, FEATURES)
    np.testing.assert_allclose(ours[:, : SPECTRA + 2], expect_features(csi, radio, channel), rtol=2e-3, atol=5e-3)
    np.testing.assert_array_equal(ours[:, -DESCRIPTION:], np.tile(channel.description, (5, 1)))


@radios
def test_a_path_peaks_at_its_direction_and_its_delay(radio) -> None:
    _, _, bandwidth = radio
    seen = Described(describe(make_transform(radio), observe(*radio, STRONGEST, ECHO)[None]))
    direction = (STRONGEST.along_columns + 1) * DIRECTIONS / 2
    after_origin = (STRONGEST.delay - ORIGIN) * BINS_PER_RESOLUTION * bandwidth - ABSOLUTE_DELAYS[0]
    delay, column = peak(seen.absolute[0])
    assert delay == pytest.approx(after_origin, abs=0.75)
    assert column == pytest.approx(direction, abs=0.75)
    delay, column = peak(seen.relative[0])
    assert delay == -RELATIVE_DELAYS[0]
    assert column == pytest.approx(direction, abs=0.75)
    assert float(seen.delay[0]) == pytest.approx((STRONGEST.delay - ORIGIN) * SPEED_OF_LIGHT, abs=1.5)


def test_two_radios_see_one_path_in_one_direction() -> None:
    few, many = (
        Described(describe(make_transform(RADIOS[name]), observe(*RADIOS[name], STRONGEST)[None]))
        for name in ("32x1, 40 MHz", "64x1, 100 MHz")
    )
    assert peak(few.absolute[0])[1] == peak(many.absolute[0])[1]
    # 100 ns after the origin are 6 bins of 1 / (1.5 · 40 MHz), and 15 of 1 / (1.5 · 100 MHz).
    assert peak(few.absolute[0])[0] + ABSOLUTE_DELAYS[0] == 6
    assert peak(many.absolute[0])[0] + ABSOLUTE_DELAYS[0] == 15
    assert float(few.delay[0]) == pytest.approx(float(many.delay[0]), abs=0.1)


def test_an_echo_stands_at_its_delay_after_the_strongest_path() -> None:
    radio = RADIOS["64x1, 100 MHz"]
    relative = Described(describe(make_transform(radio), observe(*radio, STRONGEST, ECHO)[None])).relative[0]
    column = round((ECHO.along_columns + 1) * DIRECTIONS / 2)
    later = (ECHO.delay - STRONGEST.delay) * BINS_PER_RESOLUTION * 100e6  # 37.5 bins, beyond the spectrum
    assert relative[:, column].max() < 0.7 * relative.max()
    near = Path(STRONGEST.delay + 120e-9, ECHO.azimuth, ECHO.elevation, ECHO.gains)
    relative = Described(describe(make_transform(radio), observe(*radio, STRONGEST, near)[None])).relative[0]
    assert later > RELATIVE_DELAYS[1]
    assert int(relative[:, column].argmax()) + RELATIVE_DELAYS[0] == pytest.approx(120e-9 * 150e6, abs=0.75)


@pytest.mark.parametrize("polarisations", [1, 2])
@pytest.mark.parametrize("elevation", [-0.5, 0.0, 0.4])
def test_a_planar_array_sees_elevation(elevation: float, polarisations: int) -> None:
    array = AntennaArray(rows=8, columns=4, polarisations=polarisations)
    radio = array, 32, 40e6
    path = Path(ORIGIN, azimuth=0.3, elevation=elevation, gains=(0.6, -0.8j))
    seen = Described(describe(make_transform(radio), observe(*radio, path)[None]))
    delay, row = peak(seen.elevation[0])
    assert delay == -ELEVATION_DELAYS[0]
    assert row == pytest.approx((path.along_rows + 1) * ELEVATIONS / 2, abs=0.75)


def test_a_linear_array_sees_no_elevation() -> None:
    seen = Described(describe(make_transform((LINEAR, 32, 40e6)), observe(LINEAR, 32, 40e6, STRONGEST)[None]))
    np.testing.assert_allclose(seen.elevation[0], seen.elevation[0][:, :1].repeat(ELEVATIONS, axis=1), atol=1e-4)


def test_both_polarisations_count() -> None:
    """A path that one polarisation does not see looks like one with the same power in both."""
    radio = AntennaArray(rows=2, columns=8, polarisations=2), 32, 40e6
    channel = make_transform(radio)
    paths = [Path(ORIGIN, 0.3, 0.2, gains) for gains in ((math.sqrt(2), 0.0), (1.0, 1j), (0.0, math.sqrt(2)))]
    features = describe(channel, np.stack([observe(*radio, path) for path in paths]))
    np.testing.assert_allclose(features[0], features[1], atol=2e-3)
    np.testing.assert_allclose(features[2], features[1], atol=2e-3)


def test_one_antenna_sees_delays_and_no_direction() -> None:
    radio = AntennaArray(rows=1, columns=1), 48, 20e6
    seen = Described(describe(make_transform(radio), observe(*radio, STRONGEST)[None]))
    np.testing.assert_allclose(seen.absolute[0], seen.absolute[0][:, :1].repeat(DIRECTIONS, axis=1), rtol=1e-4)
    assert peak(seen.absolute[0])[0] + ABSOLUTE_DELAYS[0] == round(100e-9 * BINS_PER_RESOLUTION * 20e6)


@radios
def test_the_common_phase_of_a_snapshot_changes_nothing(radio) -> None:
    csi = noise(radio)
    channel = make_transform(radio, csi=csi)
    turned = csi * np.exp(1j * np.arange(5))[:, None, None].astype(np.complex64)
    np.testing.assert_allclose(describe(channel, turned), describe(channel, csi), atol=2e-3)


@pytest.mark.parametrize("unit", [1e-7, 1e-3, 10.0])
def test_the_unit_of_the_csi_changes_nothing(unit: float) -> None:
    radio = RADIOS["8x8, 100 MHz"]
    csi = noise(radio)
    other = csi * np.complex64(unit)
    np.testing.assert_allclose(
        describe(make_transform(radio, csi=other), other), describe(make_transform(radio, csi=csi), csi), atol=2e-3
    )


@radios
def test_relative_and_elevation_spectrum_ignore_sto_and_gain_of_a_snapshot(radio) -> None:
    _, subcarriers, bandwidth = radio
    channel = make_transform(radio)
    csi = np.stack([observe(*radio, STRONGEST, ECHO)] * 4)
    gain, sto = np.array([0.1, 0.5, 3.0, 20.0]), np.array([-90e-9, 10e-9, 37e-9, 150e-9])
    hertz = np.arange(subcarriers) * bandwidth / subcarriers
    late = csi * (gain[:, None] * np.exp(-2j * np.pi * np.outer(sto, hertz)))[:, None]
    before, after = describe(channel, csi), describe(channel, late.astype(np.complex64))
    # The delay of the strongest path is searched on a grid, so it is right within a small share of a bin.
    np.testing.assert_allclose(after[:, ABSOLUTE:SPECTRA], before[:, ABSOLUTE:SPECTRA], atol=0.05)
    assert np.abs(after - before)[:, :ABSOLUTE].max(1).min() > 0.5
    louder, later = (after - before)[:, SPECTRA : SPECTRA + 2].T
    np.testing.assert_allclose(louder, np.log(gain), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(later, sto * SPEED_OF_LIGHT, atol=0.15)


@pytest.mark.parametrize("subcarriers", [32, 48, 64])
def test_the_strongest_direction_does_not_depend_on_the_sto(subcarriers: int) -> None:
    """Of two paths with nearly the same power, whatever their delays are."""
    radio = LINEAR, subcarriers, 1.25e6 * subcarriers
    channel = make_transform(radio)
    paths = Path(ORIGIN, azimuth=-0.5), Path(ORIGIN + 2.5 / radio[2], azimuth=0.5, gains=(0.97, 0.97))
    hertz = np.arange(subcarriers) * radio[2] / subcarriers
    late = np.exp(-2j * np.pi * np.outer(np.linspace(0, 3 / radio[2], 13), hertz))
    described = Described(describe(channel, (observe(*radio, *paths) * late[:, None]).astype(np.complex64)))
    np.testing.assert_allclose(described.relative, described.relative[:1].repeat(13, axis=0), atol=0.1)


def test_delays_wrap_around_with_the_period() -> None:
    radio = RADIOS["32x1, 40 MHz"]
    channel = make_transform(radio)
    period = 32 / 40e6
    once, again = (observe(*radio, Path(STRONGEST.delay + turns * period, 0.4)) for turns in (0, 1))
    np.testing.assert_allclose(describe(channel, again[None]), describe(channel, once[None]), atol=5e-3)


def test_the_same_power_farther_away_is_a_lower_level_and_a_weaker_absolute_spectrum() -> None:
    radio = RADIOS["32x1, 40 MHz"]
    near = observe(*radio, STRONGEST)
    seen = Described(describe(make_transform(radio), np.stack([near, near * np.float32(0.1)])))
    np.testing.assert_allclose(seen.level[1] - seen.level[0], math.log(0.1), rtol=1e-3)
    ratio = 0.1 ** (2 * ABSOLUTE_EXPONENT * (1 - 2 * POWER_NORMALISATION_EXPONENT))
    np.testing.assert_allclose(seen.absolute[1].max() / seen.absolute[0].max(), ratio, rtol=1e-2)


def test_noise_leaves_hardly_any_power_in_bins_without_a_path() -> None:
    """At 10 dB, the spectra show the two paths and little else."""
    radio = RADIOS["32x1, 40 MHz"]
    channel, clean = make_transform(radio), observe(*radio, STRONGEST, ECHO)
    rng = np.random.default_rng(3)
    sigma = np.sqrt(np.square(np.abs(clean)).mean() / 10 / 2)
    noisy = clean + (sigma * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))).astype(np.complex64)
    heard, silent = Described(describe(channel, noisy[None])), Described(describe(channel, clean[None]))
    np.testing.assert_allclose(heard.relative.max(), silent.relative.max(), rtol=0.05)
    empty = heard.relative[silent.relative < 0.1 * silent.relative.max()]
    assert (empty > 0.1 * silent.relative.max()).mean() < 0.02
