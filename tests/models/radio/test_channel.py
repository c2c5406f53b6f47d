from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from models.radio.channel import NotPolarised, element_amplitude, element_positions, subcarrier_offsets, synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

ULA = AntennaArray(rows=1, columns=32)
C = 299_792_458.0


def seen_by(
    array: AntennaArray, subcarriers: int, bandwidth: float, wavefronts: Literal["plane", "spherical"] = "plane"
) -> Radio:
    return Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth, wavefronts=wavefronts)


def at_distance(table: PathTable, metres: float, azimuth: float = 0.3) -> PathTable:
    """A user with one path of this length."""
    alone = single_path(table, zenith=1.7, azimuth=azimuth)
    return replace(alone, delay=np.array([metres / C], np.float32))


def apart(table: PathTable) -> float:
    """The relative distance of the user's CSI by plane from that by spherical wavefronts, in a narrow band."""
    plane, spherical = (synthesise(table, seen_by(ULA, 8, 1e5, kind), 0.2)[0] for kind in ("plane", "spherical"))
    return float(np.linalg.norm(plane - spherical) / np.linalg.norm(spherical))


def single_path(table: PathTable, zenith: float, azimuth: float) -> PathTable:
    """A user with one path, the first of the table, that departs in this direction."""
    return PathTable(
        site=table.site,
        users=table.users[:1],
        offsets=np.array([0, 1]),
        gain=table.gain[:1],
        delay=table.delay[:1],
        departure=np.array([[zenith, azimuth]], np.float32),
        arrival=table.arrival[:1],
        interactions=table.interactions[:1],
    )


def test_elements_are_centred_and_half_a_wavelength_apart() -> None:
    elements = element_positions(AntennaArray(rows=4, columns=8), yaw=0.7)
    np.testing.assert_allclose(elements.mean(axis=0), 0, atol=1e-12)
    rows = elements.reshape(4, 8, 3)
    np.testing.assert_allclose(np.linalg.norm(np.diff(rows, axis=1), axis=-1), 0.5)
    np.testing.assert_allclose(np.diff(rows, axis=0), np.broadcast_to([0, 0, 0.5], (3, 8, 3)), atol=1e-12)


def test_columns_count_from_right_to_left_seen_from_behind() -> None:
    """The array looks east, so somebody behind it has the north at the left."""
    north = element_positions(AntennaArray(rows=2, columns=3), yaw=0.0)[:, 1]
    np.testing.assert_allclose(north, [-0.5, 0.0, 0.5, -0.5, 0.0, 0.5], atol=1e-12)


def test_the_phase_of_a_user_clockwise_of_broadside_falls_from_column_to_column(table: PathTable) -> None:
    alone = single_path(table, zenith=np.pi / 2, azimuth=0.2 + np.radians(-40))
    H = synthesise(alone, seen_by(AntennaArray(rows=2, columns=16), 4, 20e6), 0.2)[0].reshape(2, 16, 4)
    np.testing.assert_allclose(np.angle(H[:, 1:] / H[:, :-1]), np.pi * np.sin(np.radians(-40)), atol=1e-3)
    np.testing.assert_allclose(H[0], H[1], rtol=1e-4)  # the user is at the array's height


def test_the_phase_of_a_user_below_the_array_falls_from_row_to_row(table: PathTable) -> None:
    alone = single_path(table, zenith=np.radians(100), azimuth=0.2)
    H = synthesise(alone, seen_by(AntennaArray(rows=3, columns=4), 4, 20e6), 0.2)[0].reshape(3, 4, 4)
    np.testing.assert_allclose(np.angle(H[1:] / H[:-1]), np.pi * np.cos(np.radians(100)), atol=1e-3)


def test_broadside_points_along_the_yaw() -> None:
    along = np.diff(element_positions(ULA, yaw=0.3), axis=0)[0]
    assert along @ [np.cos(0.3), np.sin(0.3), 0.0] == pytest.approx(0.0, abs=1e-12)


def test_subcarriers_are_evenly_spaced_around_the_carrier() -> None:
    offsets = subcarrier_offsets(32, 40e6)
    np.testing.assert_allclose(np.diff(offsets), 1.25e6)
    assert offsets[16] == 0.0


def test_one_path_is_one_plane_wave(table: PathTable) -> None:
    """A user with a single path has CSI of rank one: constant modulus, steps set by its angle and its delay."""
    zenith, azimuth = table.departure[0]
    alone = single_path(table, zenith, azimuth)
    H = synthesise(alone, seen_by(ULA, 16, 20e6), 0.2)[0].astype(np.complex128)
    np.testing.assert_allclose(np.abs(H), abs(table.gain[0]), rtol=1e-5)
    np.testing.assert_allclose(
        np.angle(H[:, 1:] / H[:, :-1] * np.exp(2j * np.pi * 1.25e6 * float(table.delay[0]))), 0, atol=1e-4
    )
    step = np.pi * np.sin(zenith) * np.sin(azimuth - 0.2)  # half a wavelength along the array
    np.testing.assert_allclose(np.angle(H[1:] / H[:-1] * np.exp(-1j * step)), 0, atol=1e-4)


def test_turning_the_array_and_the_paths_together_changes_nothing(table: PathTable) -> None:
    turned = PathTable(**{**table.__dict__, "departure": table.departure + np.float32([0.0, 0.5])})
    np.testing.assert_allclose(
        synthesise(turned, seen_by(ULA, 8, 40e6), 0.1 + 0.5),
        synthesise(table, seen_by(ULA, 8, 40e6), 0.1),
        atol=1e-5 * float(np.abs(table.gain).max()),
    )


def test_a_denser_grid_of_the_same_spacing_contains_the_coarser(table: PathTable) -> None:
    wide, narrow = (
        synthesise(table, seen_by(ULA, 64, 80e6), 0.0),
        synthesise(table, seen_by(ULA, 32, 40e6), 0.0),
    )
    np.testing.assert_allclose(wide[..., 16:48], narrow, rtol=1e-4, atol=1e-5 * float(np.abs(narrow).max()))


def test_plane_and_spherical_wavefronts_are_equal_far_away_and_differ_in_the_near_field(table: PathTable) -> None:
    """The Fraunhofer distance of 32 elements at 3.5 GHz is 41 m."""
    near, far, farther = (apart(at_distance(table, metres)) for metres in (40, 400, 4000))
    assert near > 0.1
    assert farther < 3e-3
    # The difference of phases is pi r² cos² / (d wavelength), so it falls with the distance.
    assert far == pytest.approx(10 * farther, rel=0.1)


@pytest.mark.parametrize("carrier", [3.5e9, 28e9])
def test_a_spherical_wavefront_has_the_phase_of_the_way_to_each_element(table: PathTable, carrier: float) -> None:
    site = replace(table.site, carrier_frequency=carrier)
    alone = replace(at_distance(table, 43.21), site=site, gain=np.ones(1, np.complex64))
    array, yaw, subcarriers, bandwidth = AntennaArray(rows=4, columns=16), 0.2, 64, 100e6
    H = synthesise(alone, seen_by(array, subcarriers, bandwidth, "spherical"), yaw)[0].astype(np.complex128)
    tau, (zenith, azimuth) = float(alone.delay[0]), alone.departure[0].astype(np.float64)
    source = C * tau * np.array([np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)])
    for row, column in ((0, 0), (0, 15), (3, 0), (2, 7)):
        along, up = (column - 7.5) * C / carrier / 2, (row - 1.5) * C / carrier / 2
        element = np.array([-np.sin(yaw) * along, np.cos(yaw) * along, up])
        for k in (0, 31, 63):
            offset = (k - 32) * bandwidth / subcarriers
            way = np.linalg.norm(source - element)
            cycles = (carrier + offset) * way / C - carrier * tau  # the gain is exact at the carrier and the centre
            expected = np.exp(-2j * np.pi * cycles)
            assert abs(H[row * 16 + column, k] - expected) < 1e-4, (row, column, k)


def test_the_centre_of_an_array_sees_the_same_under_both_kinds_of_wavefronts(table: PathTable) -> None:
    one = AntennaArray(rows=1, columns=1)
    plane, spherical = (synthesise(table, seen_by(one, 16, 40e6, kind), 0.2) for kind in ("plane", "spherical"))
    np.testing.assert_allclose(spherical, plane, atol=1e-5 * float(np.abs(plane).max()))


def test_two_polarisations_are_the_sum_and_the_difference_of_vertical_and_horizontal(table: PathTable) -> None:
    horizontal = (0.3j * table.gain[::-1]).astype(np.complex64)
    both = replace(table, horizontal_gain=horizontal)
    single, double = AntennaArray(rows=2, columns=4), AntennaArray(rows=2, columns=4, polarisations=2)
    V, H = (synthesise(one, seen_by(single, 8, 20e6), 0.1) for one in (table, replace(table, gain=horizontal)))
    slanted = synthesise(both, seen_by(double, 8, 20e6), 0.1)
    scale = float(np.abs(V).max())
    np.testing.assert_allclose(slanted[:, :8], (V + H) / np.sqrt(2), atol=1e-5 * scale)
    np.testing.assert_allclose(slanted[:, 8:], (V - H) / np.sqrt(2), atol=1e-5 * scale)
    np.testing.assert_array_equal(synthesise(both, seen_by(single, 8, 20e6), 0.1), V)


def test_two_polarisations_need_a_table_that_was_traced_with_them(table: PathTable) -> None:
    assert table.horizontal_gain is None
    with pytest.raises(NotPolarised, match="etoile-0900"):
        synthesise(table, seen_by(AntennaArray(rows=1, columns=4, polarisations=2), 8, 20e6), 0.1)


def test_the_pattern_has_8_dbi_at_broadside_3_db_less_at_its_edge_and_30_db_less_behind() -> None:
    level = np.full(5, np.pi / 2)
    off = np.radians([0.0, 32.5, -32.5, 180.0, -180.0])
    decibels = 20 * np.log10(element_amplitude("tr38901", level, off))
    np.testing.assert_allclose(decibels, [8, 5, 5, -22, -22], atol=1e-9)
    np.testing.assert_allclose(20 * np.log10(element_amplitude("tr38901", np.radians([57.5]), np.zeros(1))), 5)
    assert (element_amplitude("isotropic", level, off) == 1).all()


def test_the_pattern_looks_along_the_yaw(table: PathTable) -> None:
    radio = seen_by(ULA, 4, 20e6).model_copy(update={"pattern": "tr38901"})
    alone = single_path(table, zenith=np.pi / 2, azimuth=0.7)
    for yaw, decibels in ((0.7, 8), (0.7 + np.radians(32.5), 5), (0.7 + np.pi, -22)):
        H = synthesise(alone, radio, yaw)[0]
        np.testing.assert_allclose(20 * np.log10(np.abs(H) / abs(alone.gain[0])), decibels, atol=1e-3)


def test_another_carrier_changes_free_space_loss_phase_and_the_size_of_the_array(table: PathTable) -> None:
    alone, radio = at_distance(table, 50), seen_by(ULA, 16, 40e6, "spherical")
    low, high = synthesise(alone, radio, 0.2, 2.6e9)[0], synthesise(alone, radio, 0.2, 28e9)[0]
    np.testing.assert_allclose(np.abs(low) / np.abs(high), 28 / 2.6, rtol=1e-4)
    turned = replace(alone, site=replace(table.site, carrier_frequency=28e9))
    cycles = float(alone.delay[0]) * (28e9 - 3.5e9)
    gain = (alone.gain * (3.5 / 28) * np.exp(-2j * np.pi * cycles)).astype(np.complex64)
    np.testing.assert_allclose(high, synthesise(replace(turned, gain=gain), radio, 0.2)[0], rtol=1e-4)
    np.testing.assert_array_equal(synthesise(table, radio, 0.2, 3.5e9), synthesise(table, radio, 0.2))
