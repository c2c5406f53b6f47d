import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reference_db import (
    BadFingerprint,
    BadFingerprintFile,
    Cell,
    Fingerprints,
    LocalFrame,
    TooFewFingerprints,
    read_cell_file,
    read_fingerprint_file,
    write_fingerprint_file,
)
from reference_db.fingerprint_file import FingerprintFile

Arrays = dict[str, NDArray[Any]]
Write = Callable[[Path, Arrays, Cell], Path]


def _write_npz(folder: Path, arrays: Arrays, cell: Cell) -> Path:
    path = folder / "cell.npz"
    np.savez(path, cell=np.array(cell.model_dump_json()), **arrays)
    return path


def _write_safetensors(folder: Path, arrays: Arrays, cell: Cell) -> Path:
    path = folder / "cell.safetensors"
    save_file(arrays, path, metadata={"cell": cell.model_dump_json()})
    return path


@pytest.fixture(params=[_write_npz, _write_safetensors], ids=["npz", "safetensors"])
def write(request: pytest.FixtureRequest) -> Write:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def fingerprints(make_fingerprints: Callable[..., Fingerprints]) -> Fingerprints:
    return make_fingerprints()


@pytest.fixture
def arrays(fingerprints: Fingerprints) -> Arrays:
    return {name: getattr(fingerprints, name) for name in ("csi", "positions", "times", "sigmas")}


def test_reading_a_file_returns_its_arrays(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    described, read = read_fingerprint_file(write(tmp_path, arrays, cell))
    assert described == cell
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(read, name), array)


def test_csi_may_be_real_pairs(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    csi = arrays["csi"]
    arrays["csi"] = csi.view(np.float32).reshape(*csi.shape, 2)
    _, read = read_fingerprint_file(write(tmp_path, arrays, cell))
    np.testing.assert_array_equal(read.csi, csi)


def test_csi_may_be_half_floats_with_a_scale(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    csi = arrays["csi"]
    arrays["csi"] = (csi.view(np.float32).reshape(*csi.shape, 2) / 1e-6).astype(np.float16)
    arrays["scale"] = np.full(len(csi), 1e-6, np.float32)
    _, read = read_fingerprint_file(write(tmp_path, arrays, cell))
    np.testing.assert_allclose(read.csi, csi, rtol=1e-3)


def test_positions_may_be_latitude_and_longitude(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    positions = arrays.pop("positions")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    east_north = positions.astype(np.float64).T
    arrays["latitudes_deg"], arrays["longitudes_deg"] = frame.to_wgs84(*east_north)
    _, read = read_fingerprint_file(write(tmp_path, arrays, cell))
    np.testing.assert_allclose(read.positions, positions, atol=1e-3)


def test_times_default_to_unknown_and_sigmas_to_a_surveyed_label(
    write: Write, arrays: Arrays, cell: Cell, tmp_path: Path
) -> None:
    del arrays["times"], arrays["sigmas"]
    _, read = read_fingerprint_file(write(tmp_path, arrays, cell))
    np.testing.assert_array_equal(read.times, 0.0)
    np.testing.assert_array_equal(read.sigmas, np.float32(0.05))


def test_a_separate_cell_description_takes_precedence(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    described = tmp_path / "cell.json"
    described.write_text(cell.model_dump_json().replace("florence-1", "other"))
    other = read_cell_file(described)
    assert read_fingerprint_file(_write_npz(tmp_path, arrays, cell), other)[0].cell_id == "other"


def test_writing_a_file_that_was_read_gives_the_same_bytes(
    fingerprints: Fingerprints, cell: Cell, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_fingerprint_file(first, cell, fingerprints)
    write_fingerprint_file(second, *read_fingerprint_file(first))
    assert first.read_bytes() == second.read_bytes()


def test_bad_fingerprints_are_not_written(fingerprints: Fingerprints, cell: Cell, tmp_path: Path) -> None:
    fingerprints.csi[4] = 0
    with pytest.raises(BadFingerprint, match="row 4"):
        write_fingerprint_file(tmp_path / "a.safetensors", cell, fingerprints)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [("csi", 5, np.nan), ("positions", 6, np.inf), ("times", 7, -1.0), ("sigmas", 8, 0.0)],
)
def test_a_bad_row_is_named(
    write: Write, arrays: Arrays, cell: Cell, tmp_path: Path, name: str, row: int, value: float
) -> None:
    arrays[name][row] = value
    with pytest.raises(BadFingerprint) as caught:
        read_fingerprint_file(write(tmp_path, arrays, cell))
    assert caught.value.row == row


def test_double_precision_that_overflows_single_names_its_row(
    write: Write, arrays: Arrays, cell: Cell, tmp_path: Path
) -> None:
    arrays["sigmas"] = arrays["sigmas"].astype(np.float64)
    arrays["sigmas"][3] = 1e300
    with pytest.raises(BadFingerprint, match="row 3: sigma"):
        read_fingerprint_file(write(tmp_path, arrays, cell))


def test_a_latitude_off_the_globe_names_its_row(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    n = len(arrays.pop("positions"))
    arrays["latitudes_deg"], arrays["longitudes_deg"] = np.full(n, 43.77), np.full(n, 11.25)
    arrays["latitudes_deg"][2] = 143.77
    with pytest.raises(BadFingerprint, match="row 2: latitude"):
        read_fingerprint_file(write(tmp_path, arrays, cell))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"csi": None}, "the array csi is missing"),
        ({"csi": np.zeros((12, 4, 6), np.float32)}, "csi is float32"),
        ({"csi": np.zeros((12, 4, 6, 3), np.float32)}, "csi is float32"),
        ({"positions": None}, "either positions or both"),
        ({"latitudes_deg": np.zeros(12)}, "either positions or both"),
        ({"positions": np.zeros((12, 3))}, "positions is float64"),
        ({"positions": np.zeros((11, 2))}, "positions is float64"),
        ({"times": np.zeros((12, 1))}, "times is"),
        ({"sigmas": np.zeros(12, bool)}, "sigmas is bool"),
        ({"sigma": np.zeros(12)}, "unknown arrays: sigma; expected only"),
        ({"scale": np.ones(12)}, "scale is only allowed"),
    ],
)
def test_missing_unknown_or_malformed_arrays_are_refused(
    write: Write, arrays: Arrays, cell: Cell, tmp_path: Path, changes: Arrays, complaint: str
) -> None:
    changed = {name: array for name, array in (arrays | changes).items() if array is not None}
    with pytest.raises(BadFingerprintFile, match=complaint):
        read_fingerprint_file(write(tmp_path, changed, cell))


def test_no_rows_are_refused(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    empty = {name: array[:0] for name, array in arrays.items()}
    with pytest.raises(TooFewFingerprints):
        read_fingerprint_file(write(tmp_path, empty, cell))


def test_a_truncated_file_is_refused(write: Write, arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    path = write(tmp_path, arrays, cell)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFingerprintFile):
            read_fingerprint_file(path)


def test_a_damaged_npz_is_refused_or_read_in_full(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, arrays, cell)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 300).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            _, read = read_fingerprint_file(path)
        except (BadFingerprintFile, BadFingerprint):
            continue
        np.testing.assert_array_equal(read.csi, arrays["csi"])


def test_pickled_objects_are_never_loaded(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    arrays["times"] = np.array([object()] * 12)
    with pytest.raises(BadFingerprintFile, match="allow_pickle"):
        read_fingerprint_file(_write_npz(tmp_path, arrays, cell))


@pytest.mark.parametrize("name", ["cell.txt", "missing.npz", "missing.safetensors"])
def test_a_missing_file_or_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFingerprintFile, match=name):
        read_fingerprint_file(tmp_path / name)


def test_a_file_without_a_cell_description_needs_one(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "anonymous.safetensors"
    save_file(arrays, path)
    with pytest.raises(BadFingerprintFile, match="describes no cell"):
        read_fingerprint_file(path)
    assert read_fingerprint_file(path, cell)[0] == cell


@pytest.mark.parametrize("described", ["", "{}", "[1]", '{"cell_id": "../x"}'])
def test_a_bad_cell_description_is_refused(tmp_path: Path, described: str) -> None:
    path = tmp_path / "cell.json"
    path.write_text(described)
    with pytest.raises(BadFingerprintFile, match="cell description"):
        read_cell_file(path)


def test_a_file_that_unpacks_beyond_the_limit_is_refused(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, arrays, cell)
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    with path.open("rb") as file:
        assert len(FingerprintFile.read(file, unpacked).arrays) == len(arrays)
        with pytest.raises(BadFingerprintFile, match="unpacks to"):
            FingerprintFile.read(file, unpacked - 1)


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 8), (0, 10**30), (-1,), (10**400,)])
def test_no_memory_is_allocated_for_a_size_that_the_file_does_not_have(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "liar.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("csi.npy", "w") as member:
        described = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, described)  # type: ignore[arg-type]
        member.write(bytes(64))
    with pytest.raises(BadFingerprintFile):
        read_fingerprint_file(path)


@pytest.mark.parametrize("name", ["csi", "csi.txt"])
def test_npz_members_that_are_not_arrays_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "texts.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "hello")
    with pytest.raises(BadFingerprintFile):
        read_fingerprint_file(path)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        '{"csi": 1}',
        '{"csi": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"csi": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        '{"csi": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}',
        '{"csi": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 8]}}',
        '{"csi": {"dtype": "object", "shape": [1], "data_offsets": [0, 8]}}',
        '{"csi": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}',
        '{"__metadata__": 1}',
        '{"__metadata__": {"cell": 1}}',
    ],
)
def test_safetensors_that_contradict_themselves_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "liar.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(BadFingerprintFile):
        read_fingerprint_file(path)


def test_a_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    for length in (17, 2**40, 2**64 - 1):
        path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(8))
        with pytest.raises(BadFingerprintFile):
            read_fingerprint_file(path)
