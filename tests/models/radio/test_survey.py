from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.cli import app
from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable, take_users
from models.radio.survey import DifferentUsers, TooFewReached, describe_cell, write_station_snapshots, write_walks
from models.radio.tracing import table_path, walks_path
from models.radio.walks import SNAPSHOTS
from reference_db import LocalFrame, read_fingerprint_file
from reference_db.cell import AntennaArray

RADIO = Radio(array=AntennaArray(rows=1, columns=8), subcarriers=16, bandwidth=50e6)
USERS = 30
AWAY = np.array([120.0, -75.0, 3.0])  # metres from the first station to the second


@pytest.fixture
def tables(table: PathTable) -> list[PathTable]:
    """The same users from two stations. The second one's paths are the first one's, and do not reach user 2."""
    first, last = table.offsets[2], table.offsets[3]
    keep = np.r_[0:first, last : len(table.gain)]
    offsets = np.where(np.arange(len(table.offsets)) > 2, table.offsets - (last - first), table.offsets)
    site = replace(table.site, bs=tuple((np.array(table.site.bs) + AWAY).tolist()), yaw=1.0, station=1)
    columns = {name: getattr(table, name)[keep] for name in ("gain", "delay", "departure", "arrival", "interactions")}
    users = (table.users - AWAY).astype(np.float32)
    return [table, replace(table, site=site, users=users, offsets=offsets, **columns)]


def test_stations_measure_the_same_users_row_by_row(tables: list[PathTable], tmp_path: Path) -> None:
    files = write_station_snapshots(tables, RADIO, USERS, 1.7e9, tmp_path)
    assert [file.name for file in files] == ["etoile-0900-stations.safetensors", "etoile-0900-1-stations.safetensors"]
    (first, seen), (second, seen_too) = map(read_fingerprint_file, files)
    assert (first.cell_id, second.cell_id) == ("etoile-0900", "etoile-0900-1")
    assert second.yaw == pytest.approx(1.0)
    assert len(seen.csi) == len(seen_too.csi) == USERS
    rows = [row for row in range(USERS + 1) if row != 2]  # only users that both stations reach
    np.testing.assert_array_equal(seen.positions, tables[0].users[rows, :2])
    # On Earth, both files have each user at the same place.
    frames = [LocalFrame(cell.latitude_deg, cell.longitude_deg) for cell in (first, second)]
    places = [
        np.stack(frame.to_wgs84(*fingerprints.positions.astype(np.float64).T), axis=1)
        for frame, fingerprints in zip(frames, (seen, seen_too), strict=True)
    ]
    metres = np.stack(frames[0].to_local(*places[1].T), axis=1) - np.stack(frames[0].to_local(*places[0].T), axis=1)
    assert np.abs(metres).max() < 0.05


def test_snapshots_have_noise_of_20_db_and_a_phase_of_their_own(tables: list[PathTable], tmp_path: Path) -> None:
    file, _ = write_station_snapshots(tables, RADIO, USERS, 0.0, tmp_path)
    _, fingerprints = read_fingerprint_file(file)
    rows = [row for row in range(USERS + 1) if row != 2]
    clean = synthesise(tables[0], RADIO, tables[0].site.yaw)[rows]
    phase = (clean.conj() * fingerprints.csi).sum((1, 2))
    phase /= np.abs(phase)
    noise = fingerprints.csi - clean * phase[:, None, None]
    ratio_db = 10 * np.log10((np.abs(noise) ** 2).sum() / (np.abs(clean) ** 2).sum())
    assert ratio_db == pytest.approx(-20, abs=0.5)
    assert np.ptp(np.angle(phase)) > np.pi


def test_the_truth_about_first_paths_lies_beside_each_file(tables: list[PathTable], tmp_path: Path) -> None:
    write_station_snapshots(tables, RADIO, USERS, 0.0, tmp_path)
    truth = np.load(tmp_path / "etoile-0900-first-paths.npy")
    _, fingerprints = read_fingerprint_file(tmp_path / "etoile-0900-stations.safetensors")
    rows = [row for row in range(USERS + 1) if row != 2]
    direct = truth[:, 2] == 1
    np.testing.assert_array_equal(direct, tables[0].line_of_sight[rows])
    assert 0 < direct.sum() < USERS
    east, north = fingerprints.positions[direct].T
    np.testing.assert_allclose(truth[direct, 1], np.arctan2(north, east), atol=1e-3)
    away = np.linalg.norm(tables[0].users[rows], axis=1)
    np.testing.assert_allclose(truth[direct, 0], away[direct], atol=0.05)
    assert (truth[~direct, 0] > away[~direct] - 0.05).all()


def test_the_same_tables_give_the_same_bytes(tables: list[PathTable], tmp_path: Path) -> None:
    once, again = (write_station_snapshots(tables, RADIO, 5, 0.0, tmp_path / name) for name in ("once", "again"))
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
    assert {file.name for file in (tmp_path / "once").iterdir()} == {
        f"etoile-0900{station}-{name}" for station in ("", "-1") for name in ("stations.safetensors", "first-paths.npy")
    }


def test_tables_of_other_users_are_refused(tables: list[PathTable], tmp_path: Path) -> None:
    moved = replace(tables[1], users=tables[1].users + np.float32(0.1))
    with pytest.raises(DifferentUsers, match="etoile-0900-1 and etoile-0900"):
        write_station_snapshots([tables[0], moved], RADIO, USERS, 0.0, tmp_path)
    with pytest.raises(TooFewReached, match="all stations reach 249 users"):
        write_station_snapshots(tables, RADIO, 250, 0.0, tmp_path)


def test_cells_of_a_city_lie_on_earth_as_they_lie_in_the_scene(tables: list[PathTable]) -> None:
    first, second = (describe_cell(table.site, RADIO.array, 16, 50e6) for table in tables)
    frame = LocalFrame(first.latitude_deg, first.longitude_deg)
    np.testing.assert_allclose(frame.to_local(second.latitude_deg, second.longitude_deg), AWAY[:2], atol=0.05)


def test_the_command_writes_a_file_for_each_station(tables: list[PathTable], tmp_path: Path) -> None:
    for station, table in enumerate(tables):
        table.save(table_path(tmp_path, "etoile", 900, station))
    words = ["scenes", "stations", "etoile:900", "--paths", str(tmp_path), "--out", str(tmp_path), "--stations", "2"]
    done = CliRunner().invoke(app, [*words, "--users", "4", "--antennas", "8", "--subcarriers", "16"])
    assert done.exit_code == 0, done.output
    for line in done.output.split():
        cell, fingerprints = read_fingerprint_file(Path(line))
        assert (cell.antennas, cell.subcarriers, cell.bandwidth, len(fingerprints.csi)) == (8, 16, 50e6, 4)
    missing = CliRunner().invoke(app, [*words[:-1], "3"])
    assert missing.exit_code == 1
    assert "etoile-0900-2" in str(missing.output) + str(missing.exception)


def test_walks_are_written_one_after_another(tables: list[PathTable], tmp_path: Path) -> None:
    """User 2 of the second table is reached by no path, so the first of its walks is left out."""
    walks = take_users(tables[1], 0, 40)
    _, seen = read_fingerprint_file(write_walks(walks, RADIO, 2, 4, 1e9, tmp_path))
    rows = [SNAPSHOTS * walk + i for walk in (1, 2) for i in range(4)]
    np.testing.assert_array_equal(seen.positions, walks.users[rows, :2])
    np.testing.assert_array_equal(seen.times, [1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3] * 2)
    with pytest.raises(TooFewReached, match="3 walks are reached throughout, but 4 were asked for"):
        write_walks(walks, RADIO, 4, 4, 1e9, tmp_path)


def test_the_command_writes_a_file_of_walks(table: PathTable, tmp_path: Path) -> None:
    take_users(table, 0, 40).save(walks_path(tmp_path, "etoile", 900))
    recipe = tmp_path / "radio.yaml"
    recipe.write_text(
        "radio: {array: {rows: 1, columns: 8}, subcarriers: 16, bandwidth: 5.0e+7, carrier_frequency: 3.5e+9}"
    )
    command = ["scenes", "walks", "etoile:900", "--recipe", str(recipe), "--out", str(tmp_path), "--walks", "3"]
    done = CliRunner().invoke(app, [*command, "--paths", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(read_fingerprint_file(tmp_path / "etoile-0900-walks.safetensors")[1].csi) == 15
    missing = CliRunner().invoke(app, [*command, "--paths", str(tmp_path / "nowhere")])
    assert missing.exit_code != 0
    assert "--walks" in missing.output
