"""On small scenarios in the format of DeepMIMO 4."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models.cli import app
from models.radio.channel import synthesise
from models.radio.deepmimo import Link, NotDeepMimo, choose_link, find_links, read_scenario
from models.radio.front_end import Radio
from reference_db import read_fingerprint_file
from reference_db.cell import AntennaArray
from tests.models.deepmimo_scenarios import BS, CARRIER, PER_PATH, Matrices, make_matrices, write_scenario


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return write_scenario(tmp_path / "asu_campus_3p5", make_matrices())


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_positions_paths_and_interactions_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    matrices = make_matrices()
    folder = write_scenario(tmp_path / "city", matrices, suffix)
    table = read_scenario(folder, Link(1, 0, 0), None, None, 0)
    np.testing.assert_array_equal(table.users, (matrices["rx_pos"] - BS)[1:])
    assert table.paths_per_user.tolist() == [1] + [2] * 28
    assert table.line_of_sight.tolist() == [False] + [True] * 28
    np.testing.assert_array_equal(table.interactions[0], [8, 1])  # 21: a diffraction, then a reflection
    np.testing.assert_array_equal(table.interactions[1], [0, 0])
    there = np.isfinite(matrices["power"][1:])
    np.testing.assert_array_equal(table.delay, matrices["delay"][1:][there])
    np.testing.assert_allclose(20 * np.log10(abs(table.gain)), matrices["power"][1:][there], rtol=1e-6)
    assert (table.site.name, table.site.carrier_frequency, table.site.bs) == ("city-0000", CARRIER, (10.0, 20.0, 12.0))
    middle = (matrices["rx_pos"][1:, :2].min(0) + matrices["rx_pos"][1:, :2].max(0)) / 2 - BS[0, :2]
    assert table.site.yaw == pytest.approx(np.arctan2(middle[1], middle[0]))


def test_channels_equal_those_of_the_data_sets_own_formula(scenario: Path) -> None:
    """Sum of sqrt(P) exp(j phase) exp(j 2 pi d (y sin(az) sin(el) + z cos(el))) exp(-j 2 pi f tau), array along y."""
    matrices = make_matrices()
    radio = Radio(array=AntennaArray(rows=2, columns=4), subcarriers=8, bandwidth=40e6)
    csi = synthesise(read_scenario(scenario, Link(1, 0, 0), 0.0, None, 0), radio, 0.0)
    offsets = (np.arange(8) - 4) * 5e6
    z, y = np.divmod(np.arange(8), 4)
    for row in range(len(csi)):
        expected = np.zeros((8, 8), complex)
        for path in range(2):
            one = {name: float(matrices[name][row + 1, path]) for name in PER_PATH}
            if np.isnan(one["power"]):
                continue
            az, el = np.radians([one["aod_az"], one["aod_el"]])
            turns = 0.5 * ((y - 1.5) * np.sin(el) * np.sin(az) + (z - 0.5) * np.cos(el))
            gain = 10 ** (one["power"] / 20) * np.exp(1j * np.radians(one["phase"]))
            expected += gain * np.exp(2j * np.pi * (turns[:, None] - one["delay"] * offsets))
        np.testing.assert_allclose(csi[row], expected, atol=2e-6 * abs(expected).max())


def test_the_link_with_the_most_receivers_is_taken_or_that_of_a_stated_transmitter(scenario: Path) -> None:
    write_scenario(scenario, make_matrices(2, 2), code="t001_tx000_r001")
    write_scenario(scenario, make_matrices(3, 2), code="t001_tx001_r000")
    assert find_links(scenario) == [Link(1, 0, 0), Link(1, 1, 0), Link(1, 0, 1)]
    assert choose_link(scenario, None) == Link(1, 0, 0)
    assert choose_link(scenario, "1:1") == Link(1, 1, 0)
    with pytest.raises(NotDeepMimo, match=r"no transmitter 2:0; there are 1:0, 1:1"):
        choose_link(scenario, "2:0")


def test_receivers_are_drawn_among_those_that_paths_reach(scenario: Path) -> None:
    link = Link(1, 0, 0)
    everyone = read_scenario(scenario, link, None, None, 0)
    some, again, others = (read_scenario(scenario, link, None, 9, seed) for seed in (1, 1, 2))
    assert len(some.users) == 9
    assert some.reached.all()
    np.testing.assert_array_equal(some.users, again.users)
    assert not np.array_equal(some.users, others.users)
    assert set(map(tuple, some.users.tolist())) <= set(map(tuple, everyone.users.tolist()))


def _drop(name: str) -> Callable[[Path, Matrices], None]:
    return lambda folder, _: (folder / f"{name}_t001_tx000_r000.npz").unlink()


def _replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Matrices], None]:
    return lambda folder, matrices: write_scenario(folder, {name: make(matrices[name])}) and None


def _write_text(name: str, text: str) -> Callable[[Path, Matrices], Any]:
    return lambda folder, _: (folder / name).write_text(text)


def _cut(folder: Path, _: Matrices) -> None:
    path = folder / "delay_t001_tx000_r000.npz"
    path.write_bytes(path.read_bytes()[:200])


def _rename(folder: Path, matrices: Matrices) -> None:
    np.savez(folder / "phase_t001_tx000_r000.npz", angle=matrices["phase"])


def _missing_phase(phase: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(phase))[:, None] == 5, np.nan, phase)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_drop("power"), "has no file power_t001_tx000_r000.npz or .mat"),
        (_drop("rx_pos"), "it has no file rx_pos_tNNN_txNNN_rNNN"),
        (_drop("tx_pos"), "has no file tx_pos_t001_tx000_r000"),
        (_rename, "has no matrix phase"),
        (_cut, "cannot be read, it may be cut off"),
        (_replace("phase", lambda one: one[:-1]), "phase is [29, 4], expected [30, 4]"),
        (_replace("phase", _missing_phase), "a path has a power, but another of its numbers is missing"),
        (_replace("rx_pos", lambda one: one[:, :2]), "rx_pos [30, 2], expected [3] and [n, 3]"),
        (_replace("inter", lambda one: one + 7), "inter has codes other than the digits 0 to 4"),
        (_replace("power", lambda one: one * np.nan), "no path reaches a receiver of t001_tx000_r000"),
        (_write_text("params.json", "{}"), "does not have the number rt_params.frequency"),
        (_write_text("params.json", "frequency: 3"), "does not have the number rt_params.frequency"),
    ],
)
def test_a_wrong_folder_ends_the_command_in_one_line(
    scenario: Path, change: Callable[[Path, Matrices], Any], complaint: str
) -> None:
    change(scenario, make_matrices())
    result = CliRunner().invoke(app, ["scenes", "deepmimo", str(scenario), "--out", str(scenario.parent)])
    assert result.exit_code == 1
    assert complaint in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_folders_of_other_versions_are_named(scenario: Path, tmp_path: Path) -> None:
    (scenario / "params.json").rename(scenario / "params.mat")
    with pytest.raises(NotDeepMimo, match=r"params.mat is of version 3 or older"):
        read_scenario(scenario, Link(1, 0, 0), None, None, 0)
    dynamic = write_scenario(tmp_path / "moving" / "scene_0", make_matrices()).parent
    with pytest.raises(NotDeepMimo, match="it has several scenes; name the folder of one"):
        find_links(dynamic)
    (dynamic / "scene_0" / "params.json").rename(dynamic / "params.json")
    assert len(read_scenario(dynamic / "scene_0", Link(1, 0, 0), None, None, 0).users) == 29


def test_the_command_writes_a_survey_and_users_of_other_locations(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "scenes",
        "deepmimo",
        str(scenario),
        "--out",
        str(out),
        "--cell",
        "campus",
        "--point",
        "33.42",
        "-111.93",
    ]
    result = CliRunner().invoke(
        app, [*command, "--rows", "2", "--columns", "4", "--azimuth", "270", "--held-out", "0.3"]
    )
    assert result.exit_code == 0, result.output
    files = [out / "campus-references.safetensors", out / "campus-users.safetensors"]
    assert result.output.split() == list(map(str, files))
    (cell, references), (_, users) = map(read_fingerprint_file, files)
    assert (cell.cell_id, cell.latitude_deg, cell.longitude_deg, cell.height) == ("campus", 33.42, -111.93, 12.0)
    assert cell.yaw == pytest.approx(np.pi)
    assert (cell.array, cell.subcarriers, cell.bandwidth) == (AntennaArray(rows=2, columns=4), 32, 40e6)
    assert (len(references), len(users)) == (20, 9)
    places = [set(map(tuple, one.positions.tolist())) for one in (references, users)]
    assert not places[0] & places[1]


def test_receivers_closer_than_a_location_cannot_be_split(scenario: Path, tmp_path: Path) -> None:
    command = ["scenes", "deepmimo", str(scenario), "--out", str(tmp_path / "out"), "--same-location", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "are 1 locations" in result.output
    assert "set --same-location below the distance of its receivers" in result.output
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_are_overwritten_only_by_force(scenario: Path, tmp_path: Path) -> None:
    command = ["scenes", "deepmimo", str(scenario), "--out", str(tmp_path / "out"), "--cell", "campus"]
    assert CliRunner().invoke(app, command).exit_code == 0
    refused = CliRunner().invoke(app, [*command, "--seed", "1"])
    assert refused.exit_code == 1
    assert "campus-references.safetensors is there already; --force overwrites it" in refused.output
    assert CliRunner().invoke(app, [*command, "--seed", "1", "--force"]).exit_code == 0
