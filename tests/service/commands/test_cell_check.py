"""``fingerpost cells check``, and imports of files in other formats and layouts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reference_db import DirectoryStore, Fingerprints, LocalFrame
from reference_db.cell_description import write_description
from tests.reference_db.surveys import in_a_rectangle, make_cell, make_survey
from tests.service.commands.conftest import Fingerpost

CELL = make_cell(1, 8, 16)
LAYOUT = ("--axes", "subcarriers,antennas", "--conjugate")


@pytest.fixture
def survey() -> Fingerprints:
    """The phase is 0 at the first antenna and subcarrier, where the tiny artifact wants a positive number."""
    made = make_survey(CELL, in_a_rectangle(80, 30, -20, 90, 20), (0.0, -25.0, 110.0, 25.0))
    return replace(made, csi=made.csi * np.exp(-1j * np.angle(made.csi[:, :1, :1])).astype(np.complex64))


@pytest.fixture
def cell_file(tmp_path: Path) -> Path:
    (tmp_path / "cell.json").write_text(write_description(CELL))
    return tmp_path / "cell.json"


@pytest.fixture
def matlab(tmp_path: Path, survey: Fingerprints) -> Path:
    """Degrees, and CSI transposed and with the other sign of phase."""
    frame = LocalFrame(CELL.latitude_deg, CELL.longitude_deg)
    latitudes, longitudes = frame.to_wgs84(*survey.positions.T.astype(float))
    arrays = {"H": survey.csi.swapaxes(1, 2).conj(), "lat": latitudes, "lon": longitudes, "rssi": np.zeros(80)}
    savemat(tmp_path / "drive.mat", arrays)
    return tmp_path / "drive.mat"


def test_a_survey_of_matlab_is_checked_corrected_and_imported(
    fingerpost: Fingerpost, matlab: Path, cell_file: Path, survey: Fingerprints, tmp_path: Path
) -> None:
    described = (matlab, "--cell-file", cell_file)
    transposed = fingerpost("cells", "check", *described)
    assert transposed.exit_code == 1
    assert "its axes are samples,subcarriers,antennas" in transposed.stdout
    assert transposed.stdout.endswith("would be refused\n")
    assert "not used: rssi" in transposed.stderr

    conjugated = fingerpost("cells", "check", *described, *LAYOUT[:2])
    assert conjugated.exit_code == 1
    assert "fault: the CSI is conjugated" in conjugated.stdout
    assert "--force publishes it anyway" in conjugated.stdout

    right = fingerpost("cells", "check", *described, *LAYOUT)
    assert right.exit_code == 0, right.output
    for fact in ("8 antennas, 16 subcarriers", "80", "of 80 snapshots fit their position", "by chance"):
        assert fact in right.stdout
    assert right.stdout.endswith("would be published\n")
    assert not (tmp_path / "database").exists()

    refused = fingerpost("cells", "import", CELL.cell_id, *described)
    assert refused.exit_code == 1
    imported = fingerpost("cells", "import", CELL.cell_id, *described, *LAYOUT)
    assert imported.exit_code == 0, imported.output
    manifest = DirectoryStore(tmp_path / "database").current(CELL.cell_id)
    assert manifest is not None
    assert manifest.fingerprints == 80
    again = fingerpost("cells", "check", *described, *LAYOUT, "--append", "--json")
    report = json.loads(again.stdout)
    assert again.exit_code == 1
    assert report["version"] == manifest.version
    # Degrees bring the positions back to a millimetre, so that the fingerprints are others.
    assert report["csi"] == {"antennas": 8, "subcarriers": 16}


def test_fingerprints_of_any_format_are_appended(
    fingerpost: Fingerpost, survey: Fingerprints, cell_file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "first_csi.npy", survey.csi[:40])
    np.save(tmp_path / "first_positions.npy", survey.positions[:40] * 100)
    np.savez(tmp_path / "more.npz", H=np.moveaxis(survey.csi[40:], 0, -1), pos=survey.positions[40:])
    first = ("first_csi.npy", "--units", "cm", "--cell-file", cell_file)
    assert fingerpost("cells", "import", CELL.cell_id, *first).exit_code == 0
    more = ("more.npz", "--axes", "antennas,subcarriers,samples")
    assert fingerpost("cells", "check", *more, "--cell", CELL.cell_id, "--append").exit_code == 0
    appended = fingerpost("cells", "append", CELL.cell_id, *more)
    assert appended.exit_code == 0, appended.output
    manifest = DirectoryStore(tmp_path / "database").current(CELL.cell_id)
    assert manifest is not None
    assert manifest.fingerprints == 80


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        ((), 2, "drive.mat describes no cell; name it with --cell, or describe it with --cell-file"),
        (("--axes", "antennas,tones"), 2, "no axis is called 'tones'"),
        (("--field", "csi"), 2, "--field csi is not FIELD=NAME"),
        (("--field", "csi=Hest"), 1, "there is no Hest for csi; the file has H (complex64 [80, 16, 8])"),
        (("--cell", CELL.cell_id), 1, "CELL_NOT_FOUND"),
    ],
)
def test_a_check_that_cannot_be_made_says_why(
    fingerpost: Fingerpost, matlab: Path, options: tuple[str, ...], status: int, complaint: str
) -> None:
    result = fingerpost("cells", "check", matlab, *options)
    assert result.exit_code == status
    assert complaint in result.stderr
    assert "Traceback" not in result.output
