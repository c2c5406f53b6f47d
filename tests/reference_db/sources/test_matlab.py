"""MATLAB files that are damaged or cut off."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reference_db import BadFingerprintFile
from reference_db.fingerprint_file import FingerprintFile
from reference_db.sources.source import open_source
from tests.reference_db.sources.conftest import N


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def survey(request: pytest.FixtureRequest, random: np.random.Generator, positions: np.ndarray, tmp_path: Path) -> Path:
    """MATLAB 5, with the positions first."""
    csi = random.normal(size=(N, 4, 8)) + 1j * random.normal(size=(N, 4, 8))
    savemat(tmp_path / "survey.mat", {"pos": positions, "H": csi}, do_compression=request.param)
    return tmp_path / "survey.mat"


def test_a_whole_file_is_read(survey: Path) -> None:
    assert FingerprintFile.open(survey).arrays["csi"].shape == (N, 4, 8)


NONE, ONE = "0 whole variables", "1 whole variable"


@pytest.mark.parametrize(
    ("kept", "whole"), [(20, NONE), (100, NONE), (130, NONE), (250, NONE), (-2000, ONE), (-1, ONE)]
)
def test_a_file_that_is_cut_off_says_so(survey: Path, kept: int, whole: str) -> None:
    survey.write_bytes(survey.read_bytes()[:kept])
    with pytest.raises(BadFingerprintFile, match=rf"^survey\.mat: the file is damaged or cut off, after {whole}$"):
        FingerprintFile.open(survey)


def test_a_variable_of_no_known_kind_is_damage(survey: Path) -> None:
    content = bytearray(survey.read_bytes())
    content[128] = 99
    survey.write_bytes(content)
    with pytest.raises(BadFingerprintFile, match=r"^survey\.mat: it is a MATLAB file that is damaged or cut off: "):
        FingerprintFile.open(survey)


def test_the_byte_order_of_a_file_is_that_of_its_lengths(tmp_path: Path) -> None:
    """A big-endian matrix of one number, as old workstations write it."""
    parts = ((6, struct.pack(">II", 6, 0)), (5, struct.pack(">ii", 1, 1)), (1, b"H"), (9, struct.pack(">d", 2.5)))
    matrix = b"".join(struct.pack(">II", kind, len(part)) + part + bytes(-len(part) % 8) for kind, part in parts)
    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(matrix)) + matrix
    (tmp_path / "survey.mat").write_bytes(content)
    assert open_source(tmp_path / "survey.mat").load("H").tolist() == [[2.5]]
    (tmp_path / "survey.mat").write_bytes(content[:-1])
    with pytest.raises(BadFingerprintFile, match="the file is damaged or cut off, after 0 whole variables"):
        open_source(tmp_path / "survey.mat")


def test_a_file_of_another_kind_is_not_called_matlab(survey: Path) -> None:
    survey.write_bytes(b"x,y\n1,2\n" * 100)
    with pytest.raises(BadFingerprintFile, match="it is not a MATLAB file, or damaged or cut off"):
        FingerprintFile.open(survey)
