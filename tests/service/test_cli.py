import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from reference_db import DirectoryStore, write_fingerprint_file
from service.cli import app
from service.settings import Settings
from tests.service.plane_cell import Json, fingerprints_at, make_cell, street

Fingerpost = Callable[..., Result]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "database"


@pytest.fixture
def fingerpost(settings: Settings, database: Path, monkeypatch: pytest.MonkeyPatch) -> Fingerpost:
    monkeypatch.setenv("FINGERPOST_ARTIFACT_DIRECTORY", str(settings.artifact_directory))
    monkeypatch.setenv("FINGERPOST_DATABASE_DIRECTORY", str(database))
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SAMPLES", "30")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[1.0]")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plane.safetensors"
    write_fingerprint_file(path, make_cell("plane"), fingerprints_at(street(70, seed=1)))
    return path


def test_import_list_and_show(fingerpost: Fingerpost, file: Path, database: Path) -> None:
    imported = fingerpost("cells", "import", "plane", file, "--note", "first")
    assert imported.exit_code == 0, imported.output
    manifest = DirectoryStore(database).current("plane")
    assert manifest is not None
    assert manifest.note == "first"
    assert list(manifest.quality) == ["calibration"]
    listed = fingerpost("cells", "list").output
    assert "plane" in listed
    assert manifest.version in listed
    shown = fingerpost("cells", "show", "plane").output
    assert "stated radius (95%)" in shown
    assert "± 1 m" in shown
    assert "none" in shown
    assert json.loads(fingerpost("cells", "show", "plane", "--json").stdout)["version"] == manifest.version


def test_bad_file_changes_nothing_and_names_the_row(fingerpost: Fingerpost, file: Path, database: Path) -> None:
    assert fingerpost("cells", "import", "plane", file, "--no-calibrate").exit_code == 0
    before = DirectoryStore(database).current("plane")
    fingerprints = fingerprints_at(street(70, seed=1))
    fingerprints.csi[41, 0, 0] = np.nan
    bad = file.with_name("bad.npz")
    np.savez(bad, csi=fingerprints.csi, positions=fingerprints.positions, cell=make_cell("plane").model_dump_json())
    result = fingerpost("cells", "import", "plane", bad)
    assert result.exit_code == 1
    assert "row 41" in result.output
    assert "Traceback" not in result.output
    assert DirectoryStore(database).current("plane") == before


@pytest.mark.parametrize(("n", "antennas", "reason"), [(5, 32, "are needed"), (70, 16, "16 x 32")])
def test_cell_that_the_artifact_cannot_serve_is_not_imported(
    fingerpost: Fingerpost, tmp_path: Path, database: Path, n: int, antennas: int, reason: str
) -> None:
    path = tmp_path / "odd.safetensors"
    write_fingerprint_file(path, make_cell("odd", antennas), fingerprints_at(street(n, seed=1), antennas))
    result = fingerpost("cells", "import", "odd", path)
    assert result.exit_code == 1
    assert reason in result.output
    assert DirectoryStore(database).current("odd") is None
    assert fingerpost("cells", "import", "odd", path, "--no-calibrate").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cells", "import", "other", "plane.safetensors"), "describes cell 'plane'"),
        (("cells", "import", "plane", "absent.safetensors"), "absent.safetensors"),
        (("cells", "import", "plane", "plane.txt"), "neither .safetensors nor .npz"),
        (("cells", "show", "nowhere"), "no cell 'nowhere'"),
        (("cells", "show", "../plane"), "../plane"),
        (("locate", "absent.json"), "absent.json"),
        (("locate", "plane.safetensors", "--url", "http://127.0.0.1:9"), "no answer"),
        (("serve", "--artifact", "nowhere"), "artifact"),
        (("serve", "--port", "70000"), "port"),
    ],
)
def test_mistakes_are_told_in_a_line(
    fingerpost: Fingerpost, file: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(file.parent)
    result = fingerpost(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_locates_the_fingerprints_of_a_file(fingerpost: Fingerpost, file: Path, url: str) -> None:
    for options in ((), ("--no-coarse",)):
        result = fingerpost("locate", file, "--url", url, "--rows", 3, *options)
        assert result.exit_code == 0, result.output
        assert "error (m)" in result.output


def test_locates_the_users_of_a_request_file(
    fingerpost: Fingerpost, tmp_path: Path, url: str, request_body: Callable[..., Json]
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(request_body()))
    two.write_text(json.dumps({"items": [request_body(), request_body(cellId="nowhere")]}))
    assert fingerpost("locate", one, "--url", url).exit_code == 0
    result = fingerpost("locate", two, "--url", url)
    assert result.exit_code == 1
    assert "CELL_NOT_FOUND" in result.output
