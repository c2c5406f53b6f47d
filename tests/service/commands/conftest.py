"""``fingerpost`` in this process, with a model that needs no time."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

from reference_db import DirectoryStore, Fingerprints, write_fingerprint_file
from service.commands.cli import app
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import on_a_line


class Fingerpost(Protocol):
    def __call__(self, *arguments: object) -> Result: ...


@pytest.fixture
def fingerpost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fingerpost:
    write_tiny_artifact(tmp_path)
    for name, value in (
        ("ARTIFACT_DIRECTORY", str(tmp_path)),
        ("DATABASE_DIRECTORY", str(tmp_path / "database")),
        ("CONFIDENCE", "0.99"),  # small cells are then published without a calibration, which saves time
    ):
        monkeypatch.setenv(f"FINGERPOST_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def database(tmp_path: Path) -> DirectoryStore:
    """The reference database of the commands."""
    return DirectoryStore(tmp_path / "database")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of fingerprints of the cell `c`."""

    def write(name: str = "c.safetensors", fingerprints: Fingerprints | None = None) -> Path:
        write_fingerprint_file(tmp_path / name, tiny_cell(), on_a_line(0, 40) if fingerprints is None else fingerprints)
        return tmp_path / name

    return write
