"""``fingerpost cells convert``: folders of data that others publish."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from reference_db import DirectoryStore, Fingerprints, read_fingerprint_file
from reference_db.cell_description import write_description
from tests.reference_db.surveys import make_cell, make_survey
from tests.service.commands.conftest import Fingerpost

CELL = make_cell(1, 8, 16)
POINTS, SNAPSHOTS = 30, 3


@pytest.fixture
def survey() -> Fingerprints:
    """Three snapshots of each point of a grid. The first number of each is positive, as the tiny artifact wants."""
    x, y = np.meshgrid(np.arange(30.0, 90, 10), np.arange(-20.0, 30, 10))
    made = make_survey(CELL, np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), 3, axis=0), (0.0, -25.0, 110.0, 25.0))
    turned = made.csi * np.exp(-1j * np.angle(made.csi[:, :1, :1]))
    return Fingerprints(turned.astype(np.complex64), made.positions, made.times, made.sigmas)


@pytest.fixture
def folder(survey: Fingerprints, tmp_path: Path) -> Path:
    """As ALLoc's files, with positions from another corner."""
    (tmp_path / "data").mkdir()
    (tmp_path / "cell.json").write_text(write_description(CELL))
    places = np.concatenate([survey.positions + np.array([100, 200]), np.ones((len(survey), 1))], axis=1).astype(
        np.float32
    )
    for name, rows in (("train.h5", slice(0, 60)), ("test.h5", slice(60, None))):
        with h5py.File(tmp_path / "data" / name, "w") as file:
            file["data"], file["data_loc"] = survey.csi[rows], places[rows]
    return tmp_path / "data"


def test_a_folder_becomes_a_survey_and_users_of_other_points(
    fingerpost: Fingerpost, folder: Path, survey: Fingerprints, tmp_path: Path, database: DirectoryStore
) -> None:
    options = ("--cell-file", "cell.json", "--origin", "100,200", "--cell", "lab")
    made = fingerpost("cells", "convert", folder, *options)
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines() == ["lab-references.safetensors", "lab-users.safetensors"]
    assert "72 references, 18 users held out" in made.stderr
    (cell, references), (_, users) = map(read_fingerprint_file, map(Path, made.stdout.splitlines()))
    assert cell.model_copy(update={"yaw": CELL.yaw}) == CELL.model_copy(update={"cell_id": "lab"})
    assert cell.yaw == pytest.approx(CELL.yaw)
    places = [set(map(tuple, part.positions.tolist())) for part in (references, users)]
    assert [len(place) for place in places] == [24, 6]
    assert places[0] | places[1] == set(map(tuple, survey.positions.tolist()))
    assert not places[0] & places[1]

    imported = fingerpost("cells", "import", "lab", "lab-references.safetensors")
    assert imported.exit_code == 0, imported.output
    manifest = database.current("lab")
    assert manifest is not None
    assert manifest.fingerprints == 72


def test_files_that_are_there_are_overwritten_only_by_force(fingerpost: Fingerpost, folder: Path) -> None:
    command = ("cells", "convert", folder, "--cell-file", "cell.json", "--origin", "100,200")
    first = fingerpost(*command, "--json")
    assert json.loads(first.stdout) == {
        "files": ["made-up-references.safetensors", "made-up-users.safetensors"],
        "references": 72,
        "users": 18,
    }
    written = Path("made-up-users.safetensors").read_bytes()
    again = fingerpost(*command, "--seed", 1)
    assert again.exit_code == 1
    assert "made-up-references.safetensors is there already; --force overwrites it" in again.output
    assert Path("made-up-users.safetensors").read_bytes() == written
    assert fingerpost(*command, "--seed", 1, "--force").exit_code == 0
    assert Path("made-up-users.safetensors").read_bytes() != written
    assert fingerpost(*command, "--force").exit_code == 0
    assert Path("made-up-users.safetensors").read_bytes() == written


def test_nothing_is_held_out_on_request(fingerpost: Fingerpost, folder: Path) -> None:
    made = fingerpost(
        "cells", "convert", folder, "--cell-file", "cell.json", "--origin", "100,200", "--hold-out", "none"
    )
    assert made.stdout.splitlines() == ["made-up-references.safetensors"]
    assert len(read_fingerprint_file(Path("made-up-references.safetensors"))[1]) == 90


def test_squares_and_fewer_subcarriers(fingerpost: Fingerpost, folder: Path, survey: Fingerprints) -> None:
    narrower = CELL.model_copy(update={"subcarriers": 4})
    Path("cell.json").write_text(write_description(narrower))
    options = ("--origin", "100,200", "--hold-out", "square", "--same-location", "20", "--subcarrier-step", "4")
    made = fingerpost("cells", "convert", folder, "--cell-file", "cell.json", *options)
    assert made.exit_code == 0, made.output
    parts = [read_fingerprint_file(Path(name))[1] for name in made.stdout.splitlines()]
    squares = [set(map(tuple, np.floor(part.positions / 20).tolist())) for part in parts]
    assert not squares[0] & squares[1]
    rows = [int(np.flatnonzero((survey.positions == place).all(axis=1))[0]) for place in parts[1].positions]
    np.testing.assert_allclose(np.abs(parts[1].csi[::3]), np.abs(survey.csi[rows[::3], :, ::4]), rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "options", "status", "message"),
    [
        ("data", ("--origin", "1"), 2, "origin"),
        ("data", ("--origin", "nan,1"), 2, "origin"),
        ("data", ("--same-location", "500"), 1, "data: its 90 fingerprints are 1 locations"),
        ("data", ("--same-location", "500"), 1, "or take --hold-out square for a dense walk"),
        ("data", ("--hold-out", "square", "--same-location", "500"), 1, "now 500 m, for smaller squares"),
        ("data", ("--cell", "a b"), 2, "--cell 'a b' is no name of a cell"),
        ("data", ("--field", "csi=H"), 1, "test.h5: there is no H for csi; the file has data"),
        ("data", ("--subcarrier-step", "2"), 1, "test.h5: row 0: csi has 8 antennas and 8 subcarriers"),
        ("data/train.h5", ("--cell-file", "absent.json"), 1, "absent.json"),
        ("nowhere", (), 1, "there is no file or folder nowhere"),
        ("nowhere.h5", (), 1, "there is no file or folder nowhere.h5"),
        ("cell.json", (), 1, "cell.json: the suffix must be .safetensors, "),
        (".", (), 1, "it has the folder data: name that one"),
    ],
)
def test_a_refusal_is_one_line_and_nothing_is_written(
    fingerpost: Fingerpost,
    folder: Path,
    tmp_path: Path,
    source: str,
    options: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    given = options if "--cell-file" in options else ("--cell-file", "cell.json", *options)
    result = fingerpost("cells", "convert", source, *given)
    assert result.exit_code == status
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not list(tmp_path.glob("made-up*"))


def test_users_of_another_split_do_not_stay_beside_a_survey_that_has_them(fingerpost: Fingerpost, folder: Path) -> None:
    command = ("cells", "convert", folder, "--cell-file", "cell.json", "--origin", "100,200")
    assert fingerpost(*command).exit_code == 0
    assert Path("made-up-users.safetensors").exists()
    assert fingerpost(*command, "--hold-out", "none", "--force").exit_code == 0
    assert not Path("made-up-users.safetensors").exists()


def test_a_folder_is_converted_again_beside_what_was_made_of_it(fingerpost: Fingerpost, folder: Path) -> None:
    command = ("cells", "convert", folder, "--cell-file", "cell.json", "--origin", "100,200", "--out", folder)
    assert fingerpost(*command).exit_code == 0
    again = fingerpost(*command, "--cell", "other")
    assert "72 references, 18 users held out" in again.stderr


def test_the_place_of_the_base_station_is_said_where_nobody_stated_it(fingerpost: Fingerpost, folder: Path) -> None:
    command = ("cells", "convert", folder, "--cell-file", "cell.json")
    assert "the base station is at 0,0 of the data; state --origin" in fingerpost(*command).stderr
    assert "--origin" not in fingerpost(*command, "--force", "--origin", "100,200").stderr


def test_a_share_that_is_no_number_is_refused(fingerpost: Fingerpost, folder: Path) -> None:
    refused = fingerpost("cells", "convert", folder, "--cell-file", "cell.json", "--held-out", "nan")
    assert refused.exit_code == 2
    assert "nan is not a finite number" in refused.output


def test_what_a_file_has_beside_its_fingerprints_is_named(
    fingerpost: Fingerpost, folder: Path, survey: Fingerprints
) -> None:
    with h5py.File(folder / "test.h5", "a") as file:
        file["rssi"] = np.zeros(30)
    made = fingerpost("cells", "convert", folder, "--cell-file", "cell.json", "--origin", "100,200")
    assert made.exit_code == 0, made.output
    assert "fingerpost: test.h5: not used: rssi" in made.stderr.splitlines()
