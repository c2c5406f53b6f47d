import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact.channel_transform import BINS_PER_RESOLUTION, ChannelTransform
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT
from tests.models.one_path import Path, as_pairs, observe

ARRAY = AntennaArray(rows=2, columns=4, polarisations=2)
SUBCARRIERS, BANDWIDTH = 24, 40e6
QUARTER_OF_A_BIN = 0.25 / BINS_PER_RESOLUTION / BANDWIDTH + 1e-9  # seconds: delay origins are rounded to half bins


def transform(csi: np.ndarray, survey_sto: float | None = None, user_sto: float | None = None) -> ChannelTransform:
    return ChannelTransform.of(ARRAY, SUBCARRIERS, BANDWIDTH, 3.5e9, survey_sto, user_sto, csi)


def snapshots(*delays: float) -> np.ndarray:
    return np.stack([observe(ARRAY, SUBCARRIERS, BANDWIDTH, Path(delay, azimuth=0.3)) for delay in delays])


@given(st.floats(1e-8, 1e6))
def test_the_scale_is_the_rms_of_the_cells_csi_within_a_quarter_of_a_db(gain: float) -> None:
    csi = snapshots(1e-7, 2e-7) * np.complex64(gain)
    expected = math.sqrt(np.square(np.abs(csi.astype(complex))).mean())
    assert float(transform(csi).scale[0]) == pytest.approx(expected, rel=0.0292)


def test_the_delay_origin_is_the_median_delay_of_the_strongest_paths() -> None:
    delays = (100e-9, 110e-9, 120e-9, 190e-9, 80e-9)
    origin, metres = transform(snapshots(*delays)).delay
    assert float(origin) * SUBCARRIERS / BANDWIDTH == pytest.approx(110e-9, abs=QUARTER_OF_A_BIN)
    assert float(metres) == pytest.approx(SPEED_OF_LIGHT * SUBCARRIERS / BANDWIDTH)


def test_the_delay_origin_is_right_where_the_delays_wrap_around() -> None:
    period = SUBCARRIERS / BANDWIDTH
    turn = 0.5 * period  # where the delay in cycles jumps from 1/2 to -1/2
    origin, _ = transform(snapshots(*(turn + offset for offset in (-30e-9, -10e-9, 0.0, 5e-9, 40e-9)))).delay
    off = float(origin) * period - turn
    assert (off + period / 2) % period - period / 2 == pytest.approx(0.0, abs=QUARTER_OF_A_BIN)


def test_a_cell_without_any_signal_has_a_transform() -> None:
    silent = transform(np.zeros((3, ARRAY.antennas, SUBCARRIERS), np.complex64))
    assert all(np.isfinite(value).all() for value in silent.constants.values())
    assert silent.scale[0] == 1.0


def test_snapshots_are_viewed_line_by_line() -> None:
    csi = np.arange(2 * ARRAY.antennas * SUBCARRIERS).reshape(2, ARRAY.antennas, SUBCARRIERS).astype(np.complex64)
    pairs = as_pairs(csi)
    fed = transform(csi).feeds(pairs)["csi"]
    assert fed.shape == (2, ARRAY.polarisations * ARRAY.rows, ARRAY.columns, SUBCARRIERS, 2)
    assert np.shares_memory(fed, pairs)
    # Polarisation 1, row 1, column 2 is antenna 14 of 16.
    np.testing.assert_array_equal(fed[:, 3, 2, :, 0], csi[:, 14].real)


@pytest.mark.parametrize(
    "other",
    [
        {"array": ARRAY.model_copy(update={"spacing": 0.55})},
        {"array": AntennaArray(rows=4, columns=4)},
        {"bandwidth": 60e6},
        {"carrier_frequency": 2e9},
        {"survey_sto": 1e-8},
        {"user_sto": 0.0},
        {"csi": snapshots(1e-7) * np.complex64(2)},
        {"csi": snapshots(3e-7)},
    ],
)
def test_the_key_depends_on_everything_that_a_cell_states(other: dict) -> None:
    of = {
        "array": ARRAY,
        "subcarriers": SUBCARRIERS,
        "bandwidth": BANDWIDTH,
        "carrier_frequency": 3.5e9,
        "survey_sto": None,
        "user_sto": None,
        "csi": snapshots(1e-7),
    }
    assert ChannelTransform.of(**of).key == ChannelTransform.of(**of).key
    assert ChannelTransform.of(**of).key != ChannelTransform.of(**of | other).key


def test_the_key_changes_with_every_constant() -> None:
    one = transform(snapshots(1e-7))
    names = [field.name for field in fields(one) if field.name != "array"]
    assert set(names) == set(one.constants)
    for name in names:
        changed = getattr(one, name).copy()
        changed.flat[-1] += 1e-3
        assert replace(one, **{name: changed}).key != one.key, name


def test_other_stos_change_only_what_is_said_of_them() -> None:
    csi = snapshots(1e-7, 2e-7)
    told = transform(csi).with_sto(0.0, 20e-9)
    assert told.key == transform(csi, 0.0, 20e-9).key
    assert told.key != transform(csi).key
    np.testing.assert_allclose(told.description[-4:], [0.0, 0.0, math.log10(21), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(transform(csi).description[-4:], [0.0, 1.0, 0.0, 1.0])


def test_a_cells_constants_are_small() -> None:
    wide = AntennaArray(rows=1, columns=64)
    csi = observe(wide, 64, 100e6, Path(1e-7))[None]
    channel = ChannelTransform.of(wide, 64, 100e6, 28e9, None, None, csi)
    assert channel.nbytes == sum(value.nbytes for value in channel.constants.values())
    assert channel.nbytes < 0.4e6
