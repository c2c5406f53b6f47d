import math

import numpy as np
import pytest

from reference_db.cell import AntennaArray, Cell
from reference_db.path_features import SPEED_OF_LIGHT, USER_HEIGHT, estimate_path_features

HEIGHT = 12.0


def cell(rows: int = 1, yaw: float = 2.8) -> Cell:
    return Cell(
        cell_id="street",
        latitude_deg=48.0,
        longitude_deg=11.0,
        height=HEIGHT,
        yaw=yaw,
        array=AntennaArray(rows=rows, columns=16),
        carrier_frequency=3.5e9,
        bandwidth=50e6,
        subcarriers=64,
    )


def path(cell: Cell, azimuth: float, distance: float, gain: complex) -> np.ndarray:
    """CSI [antennas, subcarriers] of one path to a user on flat ground."""
    down = (HEIGHT - USER_HEIGHT) / distance
    level = math.sqrt(1 - down**2)
    row, column = np.divmod(np.arange(cell.antennas), cell.array.columns)
    turn = cell.array.spacing * (column * level * math.sin(azimuth - cell.yaw) - row * down)
    offset = (np.arange(cell.subcarriers) - cell.subcarriers // 2) * cell.bandwidth / cell.subcarriers
    delay = distance / SPEED_OF_LIGHT
    return gain * np.exp(2j * np.pi * turn)[:, None] * np.exp(-2j * np.pi * offset * delay)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_features_of_a_single_path_are_exact(rows: int) -> None:
    rng = np.random.default_rng(1)
    street = cell(rows)
    azimuths, distances = street.yaw + rng.uniform(-1.2, 1.2, 40), rng.uniform(15, 150, 40)
    gains = 1e-5 * np.exp(2j * np.pi * rng.random(40)) * rng.uniform(0.1, 1, 40)
    csi = np.stack([path(street, *one) for one in zip(azimuths, distances, gains, strict=True)]).astype(np.complex64)
    departure, arrival, distance, gain = estimate_path_features(csi, street).T
    assert np.abs(np.exp(1j * departure) - np.exp(1j * azimuths)).max() < math.radians(1.0)
    assert np.abs(np.exp(1j * arrival) + np.exp(1j * azimuths)).max() < math.radians(1.0)
    assert np.abs(distance - distances).max() < 0.1
    np.testing.assert_allclose(gain, np.abs(gains) ** 2, rtol=1e-4)
    assert np.abs(departure).max() <= math.pi


def test_both_polarisations_of_an_array_are_read() -> None:
    street = cell(rows=2)
    array = AntennaArray(rows=2, columns=16, polarisations=2)
    azimuth, distance = street.yaw + 0.4, 60.0
    one = path(street, azimuth, distance, 1e-5)
    csi = np.concatenate([0.1 * one, 1j * one])[np.newaxis].astype(np.complex64)
    departure, _, found, gain = estimate_path_features(csi, street.model_copy(update={"array": array}))[0]
    assert abs(np.exp(1j * departure) - np.exp(1j * azimuth)) < math.radians(1.0)
    assert abs(found - distance) < 0.1
    assert gain == pytest.approx(1e-10 * (0.01 + 1) / 2, rel=1e-4)


def test_the_strongest_of_several_paths_is_found_in_noise() -> None:
    rng = np.random.default_rng(2)
    street = cell()
    strong, weak = path(street, street.yaw + 0.4, 60.0, 1e-5), path(street, street.yaw - 0.6, 95.0, 5e-6j)
    noise = rng.normal(size=(20, 16, 64)) + 1j * rng.normal(size=(20, 16, 64))
    csi = (strong + weak + 2e-6 * noise).astype(np.complex64)
    departure, _, distance, _ = estimate_path_features(csi, street).T
    assert np.abs(np.exp(1j * (departure - street.yaw - 0.4)) - 1).max() < math.radians(1.5)
    assert np.abs(distance - 60.0).max() < 1.0


def test_an_estimate_does_not_depend_on_the_other_snapshots() -> None:
    rng = np.random.default_rng(3)
    csi = (rng.normal(size=(300, 16, 64)) + 1j * rng.normal(size=(300, 16, 64))).astype(np.complex64)
    together = estimate_path_features(csi, cell())
    np.testing.assert_allclose(estimate_path_features(csi[290:], cell()), together[290:], rtol=1e-6)
    assert estimate_path_features(csi[:0], cell()).shape == (0, 4)


@pytest.mark.parametrize(
    ("csi", "complaint"),
    [
        (np.ones((1, 64, 16), np.complex64), "csi has shape"),
        (np.zeros((1, 16, 64), np.complex64), "zero"),
        (np.full((1, 16, 64), np.nan, np.complex64), "finite"),
    ],
)
def test_csi_that_is_not_finite_zero_or_of_another_shape_is_refused(csi: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        estimate_path_features(csi, cell())


def test_a_long_path_is_no_early_arrival() -> None:
    street = cell()
    csi = path(street, street.yaw + 0.4, 350.0, 1e-5)[np.newaxis].astype(np.complex64)
    assert abs(estimate_path_features(csi, street)[0, 2] - 350.0) < 0.1


@pytest.mark.parametrize("early_ns", [1, 10, 60, 200])
def test_an_early_clock_shortens_the_range_and_never_wraps_it(early_ns: float) -> None:
    street = cell()
    early = np.exp(2j * np.pi * street.bandwidth / street.subcarriers * np.arange(street.subcarriers) * early_ns * 1e-9)
    csi = np.stack([path(street, street.yaw + 0.4, distance, 1e-5) for distance in (40.0, 60.0)]) * early
    distance = estimate_path_features(csi.astype(np.complex64), street)[:, 2]
    expected = np.maximum(np.array([40.0, 60.0]) - early_ns * 1e-9 * SPEED_OF_LIGHT, 0.0)
    np.testing.assert_allclose(distance, expected, atol=0.1)


def test_a_range_shorter_than_the_mast_does_not_spoil_the_bearing() -> None:
    street = cell()
    early = np.exp(2j * np.pi * street.bandwidth / street.subcarriers * np.arange(street.subcarriers) * 170e-9)
    csi = (path(street, street.yaw + 0.4, 55.0, 1e-5) * early)[np.newaxis].astype(np.complex64)
    departure, _, distance, _ = estimate_path_features(csi, street)[0]
    assert distance < HEIGHT
    assert abs(np.exp(1j * (departure - street.yaw - 0.4)) - 1) < math.radians(2.0)
