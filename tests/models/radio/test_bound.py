import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from models.cli import app
from models.radio.bound import UnknownReflections, image_motion, position_error_bound, position_information
from models.radio.channel import element_positions, subcarrier_offsets
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

C = 299_792_458.0
DATA = Path(__file__).parents[1] / "data"
RADIO = Radio(
    array=AntennaArray(rows=1, columns=32), subcarriers=32, bandwidth=40e6, wavefronts="spherical"
)  # at 3.5 GHz
SNR_DB = 20.0

# Reflectors as planes n·x = d. Two walls that meet at 60 degrees, and the ground.
EAST_WALL = np.array([1.0, 0.0, 0.0]), 70.0
SLANTED_WALL = np.array([math.cos(2.0), math.sin(2.0), 0.0]), 45.0
GROUND = np.array([0.0, 0.0, 1.0]), -12.0
USER = np.array([40.0, 9.0, -10.5])


def mirrored(point: NDArray[np.float64], plane: tuple[NDArray[np.float64], float]) -> NDArray[np.float64]:
    normal, distance = plane
    return point - 2 * (point @ normal - distance) * normal


def image_source(user: NDArray[np.float64], planes: tuple[tuple[NDArray[np.float64], float], ...]) -> NDArray:
    """The user as the BS sees it by a path that meets the planes in this order, counted from the user."""
    for plane in planes:
        user = mirrored(user, plane)
    return user


def table_of(
    table: PathTable,
    user: NDArray[np.float64],
    ways: list[tuple[tuple[NDArray[np.float64], float], ...]],
    gains: list[complex],
) -> PathTable:
    """One user, with a path by each way."""
    sources = np.array([image_source(user, planes) for planes in ways])
    # Seen from the user, the BS is where the same planes mirror it to, in the opposite order.
    back = np.array([image_source(np.zeros(3), planes[::-1]) for planes in ways]) - user
    angles = [
        np.stack([np.arccos(v[:, 2] / np.linalg.norm(v, axis=1)), np.arctan2(v[:, 1], v[:, 0])], axis=1)
        for v in (sources, back)
    ]
    np.testing.assert_allclose(np.linalg.norm(sources, axis=1), np.linalg.norm(back, axis=1))
    interactions = np.zeros((len(ways), 5), np.uint8)
    for row, planes in enumerate(ways):
        interactions[row, : len(planes)] = 1
    return replace(
        table,
        users=user[None].astype(np.float32),
        offsets=np.array([0, len(ways)]),
        gain=np.array(gains, np.complex64),
        delay=(np.linalg.norm(sources, axis=1) / C).astype(np.float32),
        departure=angles[0].astype(np.float32),
        arrival=angles[1].astype(np.float32),
        interactions=interactions,
    )


def alone(table: PathTable, metres: float, gain: complex = 1.0) -> PathTable:
    """A user in line of sight, at the BS's height and at broadside of an array that looks east."""
    return table_of(table, np.array([metres, 0.0, 0.0]), [()], [gain])


def sigmas(table: PathTable, radio: Radio, timing_sigma: float | None) -> tuple[float, float]:
    """What the CSI of the only user tells along and across its direction, 1 sigma in metres."""
    information = position_information(table, radio, 0.0, SNR_DB, timing_sigma)[0]
    return 1 / math.sqrt(information[0, 0]), 1 / math.sqrt(information[1, 1])


def seen_by(wavefronts: Literal["plane", "spherical"] = "spherical", **changes: object) -> Radio:
    return RADIO.model_copy(update={"wavefronts": wavefronts, **changes})


@pytest.mark.parametrize("wavefronts", ["plane", "spherical"])
def test_a_single_path_has_the_closed_form_of_bearing_and_delay(
    table: PathTable, wavefronts: Literal["plane", "spherical"]
) -> None:
    along, across = sigmas(alone(table, 50), seen_by(wavefronts), 0.0)
    snr, M, S = 10 ** (SNR_DB / 10), 32, 32
    steps = M * (M**2 - 1) / 12  # sum of squared element numbers around their mean
    bearing = 1 / math.sqrt(2 * snr * S * steps * math.pi**2)
    delay = 1 / math.sqrt(2 * snr * M * steps * (2 * math.pi * 40e6 / S) ** 2)
    assert across == pytest.approx(50 * bearing, rel=0.01)
    assert across == pytest.approx(0.004, abs=0.0005)
    assert along == pytest.approx(C * delay, rel=0.01)


@pytest.mark.parametrize(("metres", "sigma"), [(40, 0.69), (50, 1.08), (80, 2.76)])
def test_the_curvature_of_a_wavefront_tells_the_range_without_a_clock(
    table: PathTable, metres: float, sigma: float
) -> None:
    along, _ = sigmas(alone(table, metres), RADIO, None)
    aperture = 32 * C / 3.5e9 / 2
    closed = math.sqrt(180 / (2 * 100 * 1024)) * C / 3.5e9 * metres**2 / (math.pi * aperture**2)
    assert along == pytest.approx(closed, rel=0.02)
    assert along == pytest.approx(sigma, rel=0.02)
    assert sigmas(alone(table, metres), seen_by("plane"), None)[0] > 0.9 * metres  # the level, known to 8.7 dB


def test_image_sources_move_as_mirrors_make_them(table: PathTable) -> None:
    planes = (EAST_WALL, SLANTED_WALL, GROUND)
    ways = [way for length in range(4) for way in itertools.permutations(planes, length)]
    ways += [(EAST_WALL, SLANTED_WALL, EAST_WALL), (GROUND, EAST_WALL, SLANTED_WALL, EAST_WALL)]
    motion = image_motion(table_of(table, USER, ways, [1.0] * len(ways)))
    for way, found in zip(ways, motion, strict=True):
        here, *there = (image_source(USER + step, way) for step in np.eye(3)[[2, 0, 1]] * [[0], [1], [1]])
        expected = np.stack([moved - here for moved in there], axis=1)[:2]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_information_is_that_of_a_brute_force_jacobian(table: PathTable) -> None:
    """Every unknown moved a little in a channel that is computed by the length of each way, in double precision."""
    ways = [(), (EAST_WALL,), (SLANTED_WALL,), (GROUND, EAST_WALL), (EAST_WALL, SLANTED_WALL)]
    gains = np.array([1.0, 0.5j, -0.4 + 0.1j, 0.3, 0.2j])
    array, yaw = AntennaArray(rows=4, columns=16), 0.3
    radio = seen_by(array=array)
    elements = element_positions(array, yaw) * (C / 3.5e9)
    offsets_hz = subcarrier_offsets(32, 40e6)

    def channel(unknowns: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Unknowns: x, y, STO in metres, real and imaginary parts of gains. A phase per path is in its gain."""
        user = USER + np.append(unknowns[:2], 0.0)
        H = np.zeros((64, 32), np.complex128)
        for gain, way in zip(unknowns[3::2] + 1j * unknowns[4::2], ways, strict=True):
            source = image_source(user, way)
            length = np.linalg.norm(source - elements, axis=1)[:, None]
            cycles = 3.5e9 * (length - np.linalg.norm(source)) + offsets_hz * (length + unknowns[2])
            H += (
                gain
                * np.linalg.norm(image_source(USER, way))
                / np.linalg.norm(source)
                * np.exp(-2j * np.pi * cycles / C)
            )
        return H.ravel()

    at = np.concatenate([[0.0, 0.0, 0.0], np.stack([gains.real, gains.imag], axis=1).ravel()])
    step = 1e-5
    columns = [(channel(at + step * unit) - channel(at - step * unit)) / (2 * step) for unit in np.eye(len(at))]
    jacobian = np.stack(columns, axis=1)
    noise = np.mean(np.abs(channel(at)) ** 2) / 100
    fisher = 2 / noise * (jacobian.conj().T @ jacobian).real
    expected = np.linalg.inv(np.linalg.inv(fisher)[:2, :2])
    found = position_information(table_of(table, USER, ways, list(gains)), radio, yaw, SNR_DB, None)[0]
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.005 * np.abs(expected).max())


def test_exact_levels_tell_the_range_of_a_path_by_free_space_loss(table: PathTable) -> None:
    one, radio = alone(table, 50), seen_by("plane")
    information = position_information(one, radio, 0.0, SNR_DB, None, level_sigma_db=0.0)[0]
    assert 1 / math.sqrt(information[0, 0]) == pytest.approx(50 / math.sqrt(2 * 100 * 1024), rel=0.01)
    decibel = position_information(one, radio, 0.0, SNR_DB, None, level_sigma_db=1.0)[0]
    assert 1 / math.sqrt(decibel[0, 0]) == pytest.approx(50 * math.log(10) / 20, rel=0.01)
    assert position_information(one, radio, 0.0, SNR_DB, None)[0][0, 0] < 1 / 49**2


def bounds(table: PathTable, radio: Radio = RADIO, snr_db: float = SNR_DB, timing_known: bool = False) -> NDArray:
    users = np.flatnonzero(table.reached)[:40]
    return position_error_bound(table, radio, table.site.yaw, snr_db, timing_known, None, users)


def test_the_bound_grows_with_noise(table: PathTable) -> None:
    quiet, loud = bounds(table), bounds(table, snr_db=0.0)
    assert (loud > quiet).all()
    assert np.median(loud / quiet) == pytest.approx(10, rel=0.15)  # less, as paths that blur tell less at high SNR


def test_the_bound_falls_with_bandwidth_and_with_aperture(table: PathTable) -> None:
    assert (bounds(table, seen_by(bandwidth=80e6, subcarriers=64)) < bounds(table)).all()
    assert (bounds(table, seen_by(array=AntennaArray(rows=1, columns=48))) < bounds(table)).all()


def test_an_unknown_sto_never_helps_and_one_known_roughly_lies_between(table: PathTable) -> None:
    known, unknown = bounds(table, timing_known=True), bounds(table)
    assert (unknown >= known).all()
    assert np.median(unknown / known) > 1.1
    users = np.flatnonzero(table.reached)[:40]
    between = position_error_bound(table, RADIO, table.site.yaw, SNR_DB, False, None, users, timing_sigma=1e-10)
    assert (between <= unknown * (1 + 1e-9)).all()
    assert (between >= known * (1 - 1e-9)).all()


def test_a_fix_helps_most_where_the_csi_says_least(table: PathTable) -> None:
    far = alone(table, 90)
    without, coarse, fine = (
        position_error_bound(far, RADIO, 0.0, SNR_DB, False, gnss_m)[0] for gnss_m in (None, 5.0, 1.0)
    )
    assert without > coarse > fine
    assert fine == pytest.approx(1.0, abs=0.1)  # across, the CSI knows millimetres
    blind = position_error_bound(alone(table, 90), seen_by("plane"), 0.0, SNR_DB, False, 1.0)[0]
    assert blind == pytest.approx(1.0, rel=1e-3)


def test_paths_that_the_radio_cannot_resolve_are_worth_little_more_than_one(table: PathTable) -> None:
    """Two echoes with different motion, 2 cm and 0.01 degrees apart, and the path that both could be."""
    single = alone(table, 50)
    both = table_of(table, np.array([50.0, 0.0, 0.0]), [(), ()], [0.7, 0.3])
    both.delay[1] += np.float32(0.02 / C)
    both.departure[1, 1] += np.float32(np.radians(0.01))
    one, two = (position_error_bound(one, RADIO, 0.0, SNR_DB, True, None)[0] for one in (single, both))
    assert one * 0.9 < two < 3
    assert np.isfinite(two)


def test_users_without_paths_have_no_bound_and_rows_can_be_chosen(table: PathTable) -> None:
    first = int(table.offsets[1])
    columns = {name: getattr(table, name)[first:] for name in ("gain", "delay", "departure", "arrival", "interactions")}
    blocked = replace(table, offsets=np.maximum(table.offsets - first, 0), **columns)
    users = np.array([3, 0, 5])
    some = position_error_bound(blocked, RADIO, table.site.yaw, SNR_DB, False, 1.0, users)
    assert np.isnan(some[1])
    np.testing.assert_array_equal(
        some[[0, 2]], position_error_bound(table, RADIO, table.site.yaw, 20, False, 1.0, users[[0, 2]])
    )


def test_two_polarisations_of_equal_gains_tell_as_much_as_one_antenna_with_3_db_more(table: PathTable) -> None:
    double = seen_by(array=AntennaArray(rows=1, columns=32, polarisations=2))
    polarised = replace(table, horizontal_gain=np.zeros_like(table.gain))  # both polarisations then see the same
    louder = bounds(table, snr_db=SNR_DB + 10 * math.log10(2))
    np.testing.assert_allclose(bounds(polarised, double), louder, rtol=0.1)  # the prior of gains counts twice
    assert np.median(bounds(polarised, double) / louder) == pytest.approx(1, abs=0.01)


def test_tables_with_unknown_interactions_are_refused(table: PathTable) -> None:
    unknown = replace(table, interactions=np.full_like(table.interactions, 255))
    with pytest.raises(UnknownReflections, match="etoile-0900"):
        bounds(unknown)


def test_the_command_prints_users_in_sight_and_out_of_sight_apart(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"radio": RADIO.model_dump(mode="json")}))
    words = ["bound", "etoile:900", "--paths", str(DATA), "--recipe", str(recipe), "--references", "150"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines())
    assert head[:3] == ["cell", "sight", "users"]
    assert [row[:2] for row in rows] == [["etoile-0900", "LOS"], ["etoile-0900", "NLOS"]]
    assert sum(int(row[2]) for row in rows) == 100
    assert all(0 < float(row[4]) < float(row[5]) for row in rows)
    known = CliRunner().invoke(app, [*words, "--timing", "known", "--gnss-m", "1", "--json"])
    in_sight, out_of_sight = json.loads(known.stdout)
    assert (in_sight["sight"], out_of_sight["sight"]) == ("LOS", "NLOS")
    assert in_sight["users"] + out_of_sight["users"] == 100
    assert in_sight["mean"] < float(rows[0][3])
    wrong = CliRunner().invoke(app, [*words, "--timing", "perhaps"])
    assert "perhaps" in str(wrong.exception)
