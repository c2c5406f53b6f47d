"""On small folders in WAIR-D's format, written here: 2 base stations, 3 users, one of them in sight of each."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models.cli import app
from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.wair_d import NotWairD, PickleRefused, read_environment
from reference_db.cell import AntennaArray

BS = np.array([[100.0, 60.0], [300.0, 200.0]])  # half metres
UE = np.array([[140.0, 30.0], [180.0, 160.0], [260.0, 90.0]])
CARRIER = 28e9


def link(b: int, u: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two paths; the second, and shorter, is direct for user b. Base station 1 does not reach user 2."""
    if (b, u) == (1, 2):
        return {"taud": np.zeros(0), "dod": np.zeros((0, 2)), "doa": np.zeros((0, 2))}, np.zeros(0, np.complex128)
    east, north, up = *(UE[u] - BS[b]) / 2, 1.5 - 6.0
    length = np.hypot(np.hypot(east, north), up)
    zenith, azimuth = np.arccos(up / length), np.arctan2(north, east)
    around = 0.3 if u == b else 0.7
    paths = {
        "taud": np.array([length + 12.0, length]) / 0.3,
        "dod": np.array([[1.6, azimuth + 0.4], [zenith, azimuth]]),
        "doa": np.array([[1.5, azimuth - 1.0], [np.pi - zenith, azimuth - np.pi + (0.0 if u == b else around)]]),
    }
    return paths, np.array([1e-6 + 2e-6j, 4e-6 - 1e-6j])


def environment(folder: Path, dense: bool = False) -> Path:
    folder.mkdir(parents=True)
    stations = range(1 if dense else 2)
    rows = UE if dense else [[*BS[b], *UE[u]] for b in stations for u in range(3)]
    head = [400.0, 300.0, *(BS[0] if dense else [])]
    np.save(folder / "Info.npy", np.concatenate([head, np.ravel(rows)]))
    links = {f"bs{b}_ue{u:05d}" if dense else f"bs{b}_ue{u}": link(b, u) for b in stations for u in range(3)}
    write(folder / "Path.npy", {name: paths for name, (paths, _) in links.items()})
    write(folder / "H_28_0_G.npy", {name: gains for name, (_, gains) in links.items()})
    return folder


def write(path: Path, content: Any) -> None:
    box = np.empty((), object)
    box[()] = content
    np.save(path, box, allow_pickle=True)


@pytest.mark.parametrize("dense", [False, True], ids=["scenario_1", "scenario_2"])
def test_user_positions_are_metres_from_their_base_station(tmp_path: Path, dense: bool) -> None:
    tables = read_environment(environment(tmp_path / "00743", dense), CARRIER, unpickle=True)
    assert [table.site.name for table in tables] == ["wair_d_00743-0000", "wair_d_00743-0001"][: 1 if dense else 2]
    for b, table in enumerate(tables):
        np.testing.assert_allclose(table.users, np.column_stack([(UE - BS[b]) / 2, [-4.5] * 3]), rtol=1e-6)
        assert table.site.bs == (*(BS[b] / 2), 6.0)
        assert table.site.carrier_frequency == CARRIER


def test_direct_paths_are_as_long_as_the_straight_line_and_the_only_ones_in_sight(tmp_path: Path) -> None:
    for b, table in enumerate(read_environment(environment(tmp_path / "00743"), CARRIER, unpickle=True)):
        assert table.line_of_sight.tolist() == [u == b for u in range(3)]
        assert table.reached.tolist() == [True, True, b == 0]
        direct = ~table.interactions.any(axis=1)
        lengths = table.delay[direct] * 299_792_458.0
        np.testing.assert_allclose(lengths, np.linalg.norm(table.users[table.line_of_sight], axis=1), rtol=1e-6)


def test_channels_equal_those_of_the_data_sets_own_formula(tmp_path: Path) -> None:
    """Σ H exp(-j2π f τ) · exp(j2π r·k̂) at absolute frequencies, the array along y."""
    tables = read_environment(environment(tmp_path / "00743"), CARRIER, unpickle=True)
    array, subcarriers, bandwidth = AntennaArray(rows=1, columns=4), 8, 50e6
    frequency = CARRIER + (np.arange(subcarriers) - subcarriers // 2) * bandwidth / subcarriers
    for b, u in ((0, 0), (1, 0)):
        paths, gains = link(b, u)
        along = np.sin(paths["dod"][:, 0]) * np.sin(paths["dod"][:, 1])
        steering = np.exp(2j * np.pi * 0.5 * np.outer(along, np.arange(4) - 1.5))
        turned = np.exp(-2j * np.pi * np.outer(paths["taud"] * 1e-9, frequency))
        theirs = np.einsum("p,pa,ps->as", gains, steering, turned)
        ours = synthesise(tables[b], Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth), 0.0)[u]
        # Our delays are 0.07 % longer for the same lengths: 0.04 radians at the edge of the band, 120 m away.
        np.testing.assert_allclose(ours, theirs, atol=0.05 * np.abs(theirs).max())


def test_a_pickle_is_refused_without_unpickle(tmp_path: Path) -> None:
    folder = environment(tmp_path / "00743")
    with pytest.raises(PickleRefused, match="trust"):
        read_environment(folder, CARRIER)


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made by a pickle",)


def test_a_pickle_of_more_than_arrays_is_refused_even_with_unpickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment(tmp_path / "00743")
    write(folder / "Path.npy", {"bs0_ue0": Malice()})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PickleRefused, match="mkdir"):
        read_environment(folder, CARRIER, unpickle=True)
    assert not (tmp_path / "made by a pickle").exists()


def test_arrays_pickled_before_numpy_2_are_read(tmp_path: Path) -> None:
    folder = environment(tmp_path / "00743")
    for name in ("Path.npy", "H_28_0_G.npy"):
        box = np.load(folder / name, allow_pickle=True)
        with (folder / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(box))
            file.write(pickle.dumps(box, protocol=2).replace(b"numpy._core", b"numpy.core"))
    assert len(read_environment(folder, CARRIER, unpickle=True)) == 2


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: np.save(folder / "Info.npy", np.zeros(7)), "7 numbers"),
        (lambda folder: write(folder / "Path.npy", {"bs0_ue0": link(0, 0)[0]}), "different links"),
        (lambda folder: write(folder / "Path.npy", {"uplink": link(0, 0)[0]}), "names other than"),
        (lambda folder: write(folder / "Path.npy", [1, 2]), "dict"),
        (lambda folder: (folder / "Path.npy").write_bytes(b"paths"), "not an array"),
        (lambda folder: os.truncate(folder / "Path.npy", 300), "not an array"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, damage: Any, complaint: str) -> None:
    folder = environment(tmp_path / "00743")
    damage(folder)
    with pytest.raises(NotWairD, match=complaint):
        read_environment(folder, CARRIER, unpickle=True)


def test_a_carrier_that_the_data_set_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotWairD, match=r"3\.5 GHz"):
        read_environment(environment(tmp_path / "00743"), 3.5e9, unpickle=True)


def test_the_command_writes_a_table_per_base_station_and_carrier_with_unpickle(tmp_path: Path) -> None:
    words = ["scenes", "wair-d", str(environment(tmp_path / "00743")), "--out", str(tmp_path / "paths")]
    refused = CliRunner().invoke(app, [*words, "--carrier-ghz", "28"])
    assert "trust" in str(refused.exception)
    assert not (tmp_path / "paths").exists()
    done = CliRunner().invoke(app, [*words, "--carrier-ghz", "28", "--unpickle"])
    assert done.exit_code == 0, done.output
    files = sorted(tmp_path.glob("paths/28GHz/*"))
    assert [file.name for file in files] == [f"wair_d_00743-000{b}.paths.safetensors" for b in (0, 1)]
    assert PathTable.load(files[1]).line_of_sight.tolist() == [False, True, False]
