import numpy as np
import pytest

from models.radio.channel import element_positions, subcarrier_offsets, synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

ULA = AntennaArray(rows=1, columns=32)


def seen_by(array: AntennaArray, subcarriers: int, bandwidth: float) -> Radio:
    return Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth)


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
