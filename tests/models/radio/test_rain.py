import numpy as np
import pytest

from models.radio.path_table import PathTable
from models.radio.rain import let_it_rain, rain_attenuation
from models.radio.siting import Site

# Table 5 of Recommendation ITU-R P.838-3: GHz, k and alpha of horizontal, k and alpha of vertical polarisation.
TABULATED = [
    (1, 0.0000259, 0.9691, 0.0000308, 0.8592),
    (10, 0.01217, 1.2571, 0.01129, 1.2156),
    (28, 0.2051, 0.9679, 0.1964, 0.9277),
    (40, 0.4431, 0.8673, 0.4274, 0.8421),
    (100, 1.3671, 0.6815, 1.3680, 0.6765),
]


@pytest.mark.parametrize(("ghz", "k_h", "alpha_h", "k_v", "alpha_v"), TABULATED)
def test_attenuation_is_that_of_the_recommendations_table(
    ghz: float, k_h: float, alpha_h: float, k_v: float, alpha_v: float
) -> None:
    for rate in (1.0, 25.0, 100.0):
        assert rain_attenuation(ghz * 1e9, rate, vertical=False) == pytest.approx(k_h * rate**alpha_h, rel=0.003)
        assert rain_attenuation(ghz * 1e9, rate, vertical=True) == pytest.approx(k_v * rate**alpha_v, rel=0.003)


def test_other_frequencies_are_refused() -> None:
    with pytest.raises(ValueError, match="GHz"):
        rain_attenuation(0.5e9, 10.0, vertical=True)


def test_each_path_loses_power_by_its_length_and_nothing_else_changes() -> None:
    site = Site("town", 0, (0.0, 0.0, 10.0), 10.0, 0.0, (50.0, 0.0), 60.0, 28e9)
    delay = np.array([100.0, 1000.0], np.float32) / np.float32(299_792_458)
    gain = np.array([1e-4, 1e-5j], np.complex64)
    angles = np.zeros((2, 2), np.float32)
    table = PathTable(
        site,
        users=np.array([[100.0, 0.0, 0.0]], np.float32),
        offsets=np.array([0, 2]),
        gain=gain,
        delay=delay,
        departure=angles,
        arrival=angles,
        interactions=np.zeros((2, 5), np.uint8),
        horizontal_gain=gain,
    )
    wet = let_it_rain(table, 50.0)
    vertical, horizontal = (rain_attenuation(28e9, 50.0, vertical=one) for one in (True, False))
    loss_db = -20 * np.log10(np.abs(wet.gain / gain))
    np.testing.assert_allclose(loss_db, [0.1 * vertical, vertical], rtol=1e-4)
    assert wet.horizontal_gain is not None
    np.testing.assert_allclose(
        -20 * np.log10(np.abs(wet.horizontal_gain / gain)), [0.1 * horizontal, horizontal], rtol=1e-4
    )
    np.testing.assert_allclose(np.angle(wet.gain), np.angle(gain), atol=1e-6)
    assert wet.site == site
    assert wet.delay is table.delay
    dry = let_it_rain(table, 0.0)
    np.testing.assert_array_equal(dry.gain, gain)
