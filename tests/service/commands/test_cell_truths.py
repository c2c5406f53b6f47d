"""``fingerpost cells truths`` without a running service."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reference_db import DirectoryStore, Fingerprints, read_fingerprint_file, write_fingerprint_file
from tests.service.commands.conftest import Fingerpost
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import on_a_line

Write = Callable[..., Path]


@pytest.fixture
def imported(fingerpost: Fingerpost, write: Write, monkeypatch: pytest.MonkeyPatch) -> Fingerpost:
    """A cell that locates users, which needs a calibration."""
    for name, value in (("CONFIDENCE", "0.95"), ("CALIBRATION_SAMPLES", "20"), ("CALIBRATION_SIGMAS_M", "[1.0]")):
        monkeypatch.setenv(f"FINGERPOST_{name}", value)
    done(fingerpost, "import", "c", write())
    return fingerpost


@pytest.fixture
def file(write: Write) -> Path:
    return write("truths.safetensors", truths())


def truths() -> Fingerprints:
    """Beside the fingerprints, with CSI of their own."""
    line, csi = on_a_line(0, 6, 3.0), on_a_line(1000, 1006).csi
    return Fingerprints(csi, line.positions, line.times, line.sigmas)


def done(fingerpost: Fingerpost, *arguments: object) -> str:
    result = fingerpost("cells", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sends_the_truths_of_a_file_and_shows_what_they_say(imported: Fingerpost, file: Path) -> None:
    assert "no truth of cell c" in done(imported, "truths", "c")
    sent = done(imported, "truths", "c", file)
    assert re.search(r"6 truths sent, \d of 6 inside their ellipse; 6 would pay as fingerprints", sent)
    assert "mateformer" in sent
    assert "6 were counted before" in done(imported, "truths", "c", file)
    shown = json.loads(done(imported, "truths", "c", "--json"))
    assert shown["sent"] is None
    assert shown["report"]["total"]["truths"] == 6


def test_a_proposal_is_a_file_that_append_reads(
    imported: Fingerpost, file: Path, tmp_path: Path, database: DirectoryStore
) -> None:
    proposal = tmp_path / "proposal.safetensors"
    done(imported, "truths", "c", file, "--proposal", proposal)
    found, expected = read_fingerprint_file(proposal)[1], read_fingerprint_file(file)[1]
    assert np.array_equal(found.positions, expected.positions)
    assert np.array_equal(found.times, expected.times)
    before = database.current("c")
    assert before is not None
    assert before.fingerprints == 40  # nothing is appended without an explicit act
    done(imported, "append", "c", proposal)
    after = database.current("c")
    assert after is not None
    assert after.fingerprints == 46
    assert "6 refused: TRUTH_IS_FINGERPRINT" in done(imported, "truths", "c", file)


def test_append_takes_the_proposal_at_once(imported: Fingerpost, file: Path, database: DirectoryStore) -> None:
    said = done(imported, "truths", "c", file, "--coarse-sigma", 1.0, "--append", "--note", "van")
    manifest = database.current("c")
    assert manifest is not None
    assert f"6 fingerprints appended in version {manifest.version}" in said
    assert (manifest.fingerprints, manifest.change.note) == (46, "van")


def test_a_mistake_ends_the_command_with_one_line(imported: Fingerpost, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_fingerprint_file(other, tiny_cell().model_copy(update={"cell_id": "d"}), truths())
    for arguments, status, complaint in (
        (("c", "--append"), 2, "need a file of truths"),
        (("c", file, "--proposal", "a.npz"), 2, "a.npz is not .safetensors"),
        (("c", other), 1, "other.safetensors describes cell d, not c"),
        (("c", tmp_path / "none.npz"), 1, "none.npz"),
        (("d", file), 1, "CELL_NOT_FOUND"),
    ):
        result = imported("cells", "truths", *arguments)
        assert result.exit_code == status
        assert complaint in result.output
