import numpy as np
import pytest

from models.radio.channel import element_positions, subcarrier_offsets, synthesise
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

ULA = AntennaArray(rows=1, columns=32)


def test_elements_are_centred_and_half_a_wavelength_apart() -> None:
    elements = element_positions(AntennaArray(rows=4, columns=8), yaw=0.7)
    np.testing.assert_allclose(elements.mean(axis=0), 0, atol=1e-12)
    columns = elements.reshape(8, 4, 3)
    np.testing.assert_allclose(np.linalg.norm(np.diff(columns, axis=0), axis=-1), 0.5)
    np.testing.assert_allclose(np.diff(columns, axis=1), np.broadcast_to([0, 0, -0.5], (8, 3, 3)), atol=1e-12)


def test_broadside_points_along_the_yaw() -> None:
    along = np.diff(element_positions(ULA, yaw=0.3), axis=0)[0]
    assert along @ [np.cos(0.3), np.sin(0.3), 0.0] == pytest.approx(0.0, abs=1e-12)


def test_subcarriers_are_evenly_spaced_around_the_carrier() -> None:
    offsets = subcarrier_offsets(32, 40e6)
    np.testing.assert_allclose(np.diff(offsets), 1.25e6)
    assert offsets[16] == 0.0


def test_one_path_is_one_plane_wave(table: PathTable) -> None:
    """A user with a single path has CSI of rank one: constant modulus, steps set by its angle and its delay."""
    user = int(np.argmin(table.paths_per_user))
    first = table.offsets[user]
    alone = PathTable(
        site=table.site,
        users=table.users[[user]],
        offsets=np.array([0, 1]),
        gain=table.gain[[first]],
        delay=table.delay[[first]],
        departure=table.departure[[first]],
        arrival=table.arrival[[first]],
        interactions=table.interactions[[first]],
    )
    H = synthesise(alone, ULA, 0.2, 16, 20e6)[0].astype(np.complex128)
    np.testing.assert_allclose(np.abs(H), abs(table.gain[first]), rtol=1e-5)
    np.testing.assert_allclose(
        np.angle(H[:, 1:] / H[:, :-1] * np.exp(2j * np.pi * 1.25e6 * float(table.delay[first]))), 0, atol=1e-4
    )
    zenith, azimuth = table.departure[first]
    step = np.pi * np.sin(zenith) * np.sin(azimuth - 0.2)  # half a wavelength along the array
    np.testing.assert_allclose(np.angle(H[1:] / H[:-1] * np.exp(-1j * step)), 0, atol=1e-4)


def test_turning_the_array_and_the_paths_together_changes_nothing(table: PathTable) -> None:
    turned = PathTable(**{**table.__dict__, "departure": table.departure + np.float32([0.0, 0.5])})
    np.testing.assert_allclose(
        synthesise(turned, ULA, 0.1 + 0.5, 8, 40e6),
        synthesise(table, ULA, 0.1, 8, 40e6),
        atol=1e-5 * float(np.abs(table.gain).max()),
    )


def test_a_denser_grid_of_the_same_spacing_contains_the_coarser(table: PathTable) -> None:
    wide, narrow = synthesise(table, ULA, 0.0, 64, 80e6), synthesise(table, ULA, 0.0, 32, 40e6)
    np.testing.assert_allclose(wide[..., 16:48], narrow, rtol=1e-4, atol=1e-5 * float(np.abs(narrow).max()))
