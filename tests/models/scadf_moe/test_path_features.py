import math

import numpy as np

from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.survey import describe_cell
from models.scadf_moe.path_features import add_measurement_errors, exact_path_features
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT, estimate_path_features


def test_exact_path_features_are_those_of_each_users_strongest_path(table: PathTable) -> None:
    features = exact_path_features(table)
    for user in (0, 17, 249):
        rows = np.arange(table.offsets[user], table.offsets[user + 1])
        strongest = rows[np.abs(table.gain[rows]).argmax()]
        expected = [
            table.departure[strongest, 1],
            table.arrival[strongest, 1],
            table.delay[strongest] * SPEED_OF_LIGHT,
            (np.abs(table.gain[rows].astype(np.complex128)) ** 2).sum(),
        ]
        np.testing.assert_allclose(features[user], expected, rtol=1e-6)


def test_in_line_of_sight_the_exact_path_features_determine_the_position(table: PathTable) -> None:
    departure, arrival, distance, _ = exact_path_features(table)[table.line_of_sight].T
    users = table.users[table.line_of_sight].astype(np.float64)
    level = np.sqrt(distance**2 - users[:, 2] ** 2)
    off = np.linalg.norm(
        level[:, None] * np.column_stack([np.cos(departure), np.sin(departure)]) - users[:, :2], axis=1
    )
    assert np.median(off) < 0.05
    assert np.median(np.abs(np.exp(1j * arrival) + np.exp(1j * departure))) < 1e-3


def test_a_user_that_no_path_reaches_has_no_path_features(table: PathTable) -> None:
    first = int(table.offsets[1])
    columns = {name: getattr(table, name)[first:] for name in ("gain", "delay", "departure", "arrival", "interactions")}
    offsets = np.maximum(table.offsets - first, 0)
    blocked = PathTable(site=table.site, users=table.users, offsets=offsets, **columns)
    features = exact_path_features(blocked)
    assert not features[0].any()
    np.testing.assert_array_equal(features[1:], exact_path_features(table)[1:])


def test_measured_path_features_have_errors_of_two_degrees_a_metre_and_a_decibel(table: PathTable) -> None:
    exact = np.repeat(exact_path_features(table), 20, axis=0)
    noisy = add_measurement_errors(exact, np.random.default_rng(1))
    sigmas = (noisy - exact).std(axis=0)
    np.testing.assert_allclose(sigmas[:3], [math.radians(2), math.radians(2), 1.0], rtol=0.05)
    np.testing.assert_allclose((10 * np.log10(noisy[:, 3] / exact[:, 3])).std(), 1.0, rtol=0.05)
    np.testing.assert_array_equal(add_measurement_errors(exact, np.random.default_rng(1)), noisy)


def test_path_features_estimated_from_csi_are_near_the_exact_ones_in_line_of_sight(table: PathTable) -> None:
    array = AntennaArray(rows=1, columns=32)
    csi = synthesise(table, Radio(array=array, subcarriers=64, bandwidth=50e6), table.site.yaw)[table.line_of_sight]
    estimated = estimate_path_features(csi, describe_cell(table.site, array, 64, 50e6))
    exact = exact_path_features(table)[table.line_of_sight]
    apart = np.abs(np.exp(1j * estimated[:, :2]) - np.exp(1j * exact[:, :2]))
    assert (np.median(apart, axis=0) < math.radians(1.0)).all()
    assert np.median(np.abs(estimated[:, 2] - exact[:, 2])) < 1.0
    assert np.median(np.abs(10 * np.log10(estimated[:, 3] / exact[:, 3]))) < 1.0
