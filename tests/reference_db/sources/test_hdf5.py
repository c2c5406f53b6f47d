"""HDF5 as ALLoc's data set has it: `data` complex64 [n, 32, 32] and `data_loc` float32 [n, 3], written here by h5py."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reference_db import BadFingerprintFile, read_fingerprint_file
from reference_db.cell_description import write_description
from reference_db.data_folder import read_data_files
from reference_db.layout import CONVENTION, Layout
from reference_db.sources.source import open_source
from tests.reference_db.sources.conftest import N, describe

CELL = describe(32, 32)


@pytest.fixture
def csi(random: np.random.Generator) -> np.ndarray:
    return (random.normal(size=(N, 32, 32)) + 1j * random.normal(size=(N, 32, 32))).astype(np.complex64)


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def test_csi_and_positions_come_back_exactly(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "train.h5", data=csi, data_loc=positions.astype(np.float32))
    _, made = read_fingerprint_file(path, CELL)
    np.testing.assert_array_equal(made.csi, csi)
    np.testing.assert_array_equal(made.positions, positions[:, :2].astype(np.float32))


def test_usual_names_and_a_description_inside_are_read_too(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    path = write(tmp_path / "own.hdf5", H=csi, data=csi * 2, pos=positions, cell=write_description(CELL))
    cell, made = read_fingerprint_file(path)
    assert cell.cell_id == CELL.cell_id
    np.testing.assert_array_equal(made.csi, csi)


def test_data_without_data_loc_is_not_taken_for_csi(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "other.h5", data=csi, pos=positions)
    with pytest.raises(BadFingerprintFile, match=r"csi is missing; .*if data is the CSI, state --field csi=data"):
        read_fingerprint_file(path, CELL)
    _, made = read_fingerprint_file(path, CELL, Layout.read(fields={"csi": "data"}))
    np.testing.assert_array_equal(made.csi, csi)


def test_a_data_set_in_a_group_has_the_name_of_the_group_before_its_own(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    path = write(tmp_path / "group.h5", **{"walk/H": csi, "walk/pos": positions})
    np.testing.assert_array_equal(read_fingerprint_file(path, CELL)[1].csi, csi)
    with pytest.raises(BadFingerprintFile, match=r"there is no Hest for csi; the file has walk\.H \(complex64"):
        read_fingerprint_file(path, CELL, Layout.read(fields={"csi": "Hest"}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": lambda one: one.real}, "csi is float32 [6, 32, 32]: real numbers"),
        ({"data": lambda one: one[:, :31]}, "row 0: csi has 31 antennas and 32 subcarriers"),
        ({"data": lambda one: one[:-1]}, "positions is float32 [6, 2], expected real numbers [5, 2]"),
        ({"data_loc": lambda one: one[:, :1]}, "positions is float32 [6, 1], expected real numbers [6, 2]"),
        (
            {"data_loc": None},
            "the positions data_loc are missing, so data is not taken for the CSI; the file has data "
            "(complex64 [6, 32, 32]); if data is the CSI, state --field csi=data",
        ),
        ({"data": None}, "csi is missing; the file has data_loc (float32 [6, 3])"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_a_wrong_file_is_refused_in_one_line(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    arrays = {"data": csi, "data_loc": positions.astype(np.float32)}
    for name, make in change.items():
        if make is None:
            del arrays[name]
        else:
            arrays[name] = make(arrays[name])
    path = write(tmp_path / "train.h5", **arrays)
    with pytest.raises(BadFingerprintFile) as refused:
        read_data_files([path], CELL, CONVENTION)
    assert str(refused.value).startswith("train.h5: ")
    assert "\n" not in str(refused.value)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("kept", [0, 100, 2048, -1000])
def test_a_file_that_is_cut_off_is_refused(csi: np.ndarray, positions: np.ndarray, tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "train.h5", data=csi, data_loc=positions)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadFingerprintFile, match=r"^train\.h5: it is not an HDF5 file, or damaged"):
        read_fingerprint_file(path, CELL)


def test_data_sets_whose_names_would_be_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["g/positions"] = np.zeros((3, 2))
        file["g.positions"] = np.ones((3, 2))
    with pytest.raises(BadFingerprintFile, match=r"two data sets that are called g\.positions here"):
        open_source(path)
