import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
from reference_db.azimuth import to_direction
from reference_db.cell_description import CellDescription, write_description
from reference_db.errors import BadCellDescription
from reference_db.fingerprint_file import FingerprintFile
from reference_db.fingerprints import check_fingerprints

A_CELL = Cell(
    cell_id="florence-1",
    latitude_deg=43.77,
    longitude_deg=11.25,
    height=12,
    yaw=to_direction(72.5),
    array={"rows": 1, "columns": 4},
    carrier_frequency=3.5e9,
    bandwidth=40e6,
    subcarriers=6,
)
Arrays = dict[str, NDArray[Any]]
Write = Callable[[Path, Arrays, Cell], Path]


def _write_npz(folder: Path, arrays: Arrays, cell: Cell) -> Path:
    path = folder / "cell.npz"
    np.savez(path, cell=np.array(write_description(cell)), **arrays)
    return path


def _write_safetensors(folder: Path, arrays: Arrays, cell: Cell) -> Path:
    path = folder / "cell.safetensors"
    save_file(arrays, path, metadata={"cell": write_description(cell)})
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
    described.write_text(write_description(cell).replace("florence-1", "other"))
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
        ({"positions": np.zeros((12, 4))}, "positions is float64"),
        ({"positions": np.zeros((11, 2))}, "positions is float64"),
        ({"times": np.zeros((12, 1))}, "times is"),
        ({"sigmas": np.zeros(12, bool)}, "sigmas is bool"),
        ({"sigma": np.zeros(12)}, "unknown arrays: sigma; expected only .* state --field csi=csi to leave others out"),
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


class _Trap:
    """Unpickling an instance fails the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("the file's pickle was loaded",)


@pytest.mark.parametrize("name", ["csi", "times", "cell"])
@pytest.mark.parametrize("dtype", [object, [("a", object)]])
def test_pickled_objects_are_never_loaded(arrays: Arrays, cell: Cell, tmp_path: Path, name: str, dtype: Any) -> None:
    arrays |= {"cell": np.array(write_description(cell))}
    objects = np.empty(12, dtype)
    objects.fill((_Trap(),) if dtype is not object else _Trap())
    np.savez(tmp_path / "cell.npz", allow_pickle=True, **arrays | {name: objects})
    with pytest.raises(BadFingerprintFile, match=f"{name} holds Python objects"):
        read_fingerprint_file(tmp_path / "cell.npz")


_ORDERS = st.sampled_from(["C", "F"])
_REALS = ["e", "f", "d", "g", "b", "h", "i", "q", "B", "H", "I", "Q"]
_COMPLEX = ["F", "D", "G"]
_REFUSED = ["?", "S4", "U2", "M8[s]", "m8[s]", "V8"]


@st.composite
def _stored(draw: st.DrawFn, values: Any, kinds: list[str]) -> NDArray[Any]:
    """The values in some type, byte order and memory order, as another program may have saved them."""
    order = draw(_ORDERS)
    dtype = np.dtype(draw(st.sampled_from(kinds))).newbyteorder(draw(st.sampled_from("<>")))
    return np.asarray(values).astype(dtype, order=order)  # type: ignore[no-any-return]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), where=st.sampled_from(["positions", "degrees"]), pairs=st.booleans())
def test_arrays_of_any_order_and_width_are_read(data: st.DataObject, where: str, pairs: bool) -> None:
    """Small whole numbers, which every type can hold."""
    random = np.random.default_rng(1)
    csi, positions = random.integers(1, 9, (6, 4, 6, 2)), random.permutation(12).reshape(6, 2)
    real = data.draw(_stored(csi, [kind for kind in _REALS if kind.islower()]))
    complexes = data.draw(_stored(csi[..., 0] + 1j * csi[..., 1], _COMPLEX))
    stored: Arrays = {"csi": real if pairs else complexes}
    described = A_CELL.model_copy(update={"latitude_deg": 5.0, "longitude_deg": 6.0})
    if where == "positions":
        stored["positions"] = data.draw(_stored(positions, _REALS))
    else:
        exact = [kind for kind in _REALS if kind not in "ef"]  # the others round by decimetres or more
        stored["latitudes_deg"] = data.draw(_stored(np.full(6, 5), exact))
        stored["longitudes_deg"] = data.draw(_stored(np.full(6, 6), exact))
    stored["times"] = data.draw(_stored(np.arange(6), _REALS))
    stored["sigmas"] = data.draw(_stored(np.arange(1, 7), _REALS))
    if pairs:
        stored["scale"] = data.draw(_stored(np.full(6, 2), _REALS))

    read = FingerprintFile.read(_saved(stored)).fingerprints(described)
    check_fingerprints(read, described)

    np.testing.assert_array_equal(read.csi, (csi[..., 0] + 1j * csi[..., 1]) * (2 if pairs else 1))
    np.testing.assert_array_equal(read.positions, positions if where == "positions" else np.zeros((6, 2)))
    np.testing.assert_array_equal(read.times, np.arange(6))
    np.testing.assert_array_equal(read.sigmas, np.arange(1, 7))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["csi", "scale", "positions", "times", "sigmas"]),
    kind=st.sampled_from([*_REALS, *_COMPLEX, *_REFUSED, [("re", "f4"), ("im", "f4")], [("xy", "f4", (2,))]]),
    shape=st.lists(st.integers(0, 6), max_size=4).map(tuple),
    order=_ORDERS,
)
def test_an_array_of_another_type_or_shape_is_refused_by_name(
    name: str, kind: Any, shape: tuple[int, ...], order: Any
) -> None:
    stored: Arrays = {"csi": np.ones((6, 4, 6, 2)), "positions": np.arange(12.0).reshape(6, 2)}
    stored[name] = np.zeros(shape, kind, order=order)
    usable = {"csi": (6, 4, 6, 2), "scale": (6,), "positions": (6, 2), "times": (6,), "sigmas": (6,)}
    real = isinstance(kind, str) and kind in _REALS
    if real and shape == usable[name] and (name != "csi" or kind.islower()):
        return
    if name == "positions" and real and shape in ((6, 3), (2, 6), (3, 6)):  # with heights, or on their side
        return
    # CSI of other rows contradicts the positions.
    blamed = "csi|positions" if name in ("csi", "positions") else name
    with pytest.raises(BadFingerprintFile, match=f"^({blamed}) "):
        FingerprintFile.read(_saved(stored)).fingerprints(A_CELL)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["csi", "csi_real", "csi_imag", "scale", "x", "y", "positions"]),
    kind=st.sampled_from([*_REALS, *_COMPLEX, *_REFUSED, "U3", [("re", "f4"), ("im", "f4")], [("xy", "f4", (2,))]]),
    shape=st.lists(st.integers(0, 6), max_size=4).map(tuple),
    parts=st.booleans(),
)
def test_arrays_that_are_joined_may_be_of_any_type_and_shape(
    name: str, kind: Any, shape: tuple[int, ...], parts: bool
) -> None:
    csi = np.ones((6, 4, 6))
    stored: Arrays = {"csi_real": csi, "csi_imag": csi} if parts else {"csi": np.ones((6, 48))}
    stored |= {"x": np.arange(6.0), "y": np.arange(6.0), "scale": np.ones(6), name: np.zeros(shape, kind)}
    with suppress(BadFingerprintFile, BadFingerprint):
        FingerprintFile.read(_saved(stored)).fingerprints(A_CELL)


def _saved(arrays: Arrays) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_degrees_that_their_type_rounds_by_more_than_their_error_are_refused(
    arrays: Arrays, cell: Cell, tmp_path: Path, dtype: Any
) -> None:
    """float32 holds a latitude of 43.77 degrees to 0.4 m."""
    del arrays["positions"]
    arrays["latitudes_deg"] = np.full(12, 43.7712, dtype)
    arrays["longitudes_deg"] = np.full(12, 11.25)
    with pytest.raises(BadFingerprint, match=f"row 0: {np.dtype(dtype).name} rounds latitudes_deg to .*float64"):
        read_fingerprint_file(_write_npz(tmp_path, arrays, cell))
    arrays["sigmas"] = np.full(12, 100.0)
    if dtype is np.float32:
        read_fingerprint_file(_write_npz(tmp_path, arrays, cell))


@pytest.mark.parametrize(("first", "second"), [("csi.npy", "csi.npy"), ("csi", "csi.npy"), ("cell.npy", "cell.npy")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_npz_with_two_members_of_one_name_is_refused(
    arrays: Arrays, cell: Cell, tmp_path: Path, first: str, second: str
) -> None:
    path = _write_npz(tmp_path, arrays, cell)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    again = members.pop(second)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*members.items(), (first, again), (second, again)]:
            archive.writestr(name, content)
    with pytest.raises(BadFingerprintFile, match=f"'{second.removesuffix('.npy')}' is there more than once"):
        read_fingerprint_file(path)


def test_a_safetensors_file_with_two_arrays_of_one_name_is_refused(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    path = _write_safetensors(tmp_path, arrays, cell)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length].rstrip()
    twice = header[:-1] + b',"csi":' + header.split(b'"csi":')[1].split(b"}")[0] + b"}}"
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + whole[8 + length :])
    with pytest.raises(BadFingerprintFile, match="'csi' is there more than once"):
        read_fingerprint_file(path)


@pytest.mark.parametrize("name", ["height", "rows"])
def test_a_cell_description_that_gives_a_field_twice_is_refused(cell: Cell, tmp_path: Path, name: str) -> None:
    path = tmp_path / "cell.json"
    path.write_text(write_description(cell).replace(f'"{name}":', f'"{name}":1,"{name}":'))
    with pytest.raises(BadFingerprintFile, match=f"'{name}' is there more than once"):
        read_cell_file(path)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_description_in_an_npz_may_be_text_or_bytes(
    arrays: Arrays, cell: Cell, tmp_path: Path, as_bytes: bool, shape: tuple[int, ...]
) -> None:
    text = write_description(cell)
    np.savez(tmp_path / "cell.npz", cell=np.full(shape, text.encode() if as_bytes else text), **arrays)
    assert read_fingerprint_file(tmp_path / "cell.npz")[0] == cell


@pytest.mark.parametrize("described", [np.zeros(3), np.array(["{}", "{}"]), np.array(b"\xff")])
def test_a_description_that_is_not_one_string_is_refused(
    arrays: Arrays, tmp_path: Path, described: NDArray[Any]
) -> None:
    np.savez(tmp_path / "cell.npz", cell=described, **arrays)
    with pytest.raises(BadFingerprintFile):
        read_fingerprint_file(tmp_path / "cell.npz")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(header=st.text(st.sampled_from("{}[]()',:<f8 descrtuofanhpe_0129-~\n\\L\0"), max_size=60))
@example("'" * 3)
@example("(" * 9000)
@example("-" * 9000 + "1")
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_an_npz_whose_array_header_is_nonsense_is_refused(header: str) -> None:
    file = io.BytesIO()
    encoded = header.encode("latin-1")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("csi.npy", b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + bytes(8))
    with pytest.raises(BadFingerprintFile):
        FingerprintFile.read(file)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_compressed_npz_is_refused_or_read_in_full(
    arrays: Arrays, cell: Cell, tmp_path: Path, method: int
) -> None:
    path = _write_npz(tmp_path, arrays, cell)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 200).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            _, read = read_fingerprint_file(path)
        except (BadFingerprintFile, BadFingerprint):
            continue
        np.testing.assert_array_equal(read.csi, arrays["csi"])


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"azimuthDeg": -400}, "azimuthDeg: Input should be greater than or equal to -360"),
        ({"azimuthDeg": "east"}, "azimuthDeg: Input should be a valid number"),
        ({"surveyStoNs": -1}, "surveyStoNs: Input should be greater than or equal to 0"),
        ({"carrierFrequency": 3.5}, "carrierFrequency: Input should be greater than or equal to 1000000"),
        (
            {"yawDeg": 27.9},
            "yawDeg (degrees counter-clockwise from east) is no field any more; write "
            '"azimuthDeg": 62.1 (compass, degrees clockwise from north)',
        ),
        ({"yaw": 0.486}, 'yaw (radians counter-clockwise from east) is no field any more; write "azimuthDeg": 62.154 '),
        ({"latitude_deg": 43.7}, 'latitude_deg is no field any more; write "point": {"lat": ...}'),
        ({"user_sto": 1e-8}, "user_sto (seconds) is no field any more; write userStoNs (nanoseconds)"),
        ({"bandwidth": 1e10}, "bandwidth must be below twice the carrier frequency"),
        ({"array": {"rows": 0, "columns": 4}}, "array.rows: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_field_of_a_description_is_named_in_one_line(
    cell: Cell, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(json.loads(write_description(cell)) | change))
    with pytest.raises(BadFingerprintFile) as refused:
        read_cell_file(path)
    assert str(refused.value).removeprefix("cell.json: the cell description is invalid: ").startswith(reason)
    assert "pydantic" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_faults_of_a_description_are_named(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(json.loads(write_description(cell)) | {"azimut": 3, "height": "high"}))
    with pytest.raises(BadCellDescription) as refused:
        read_cell_file(path)
    assert [fault.split(": ")[1] for fault in refused.value.faults] == ["height", "azimut"]


def test_a_file_that_an_earlier_version_exported_is_read(arrays: Arrays, cell: Cell, tmp_path: Path) -> None:
    former = cell.model_copy(update={"yaw": 0.3, "survey_sto": 12e-9}).model_dump_json()
    np.savez(tmp_path / "cell.npz", cell=np.array(former), **arrays)
    save_file(arrays, tmp_path / "cell.safetensors", metadata={"cell": former})
    for name in ("cell.npz", "cell.safetensors"):
        read, _ = read_fingerprint_file(tmp_path / name)
        assert (read.yaw, read.survey_sto) == (0.3, 12e-9)


@pytest.mark.parametrize("azimuth", [0.0, 0.1, 72.5, 90.0, 180.0, 270.0, 359.9])
def test_an_azimuth_is_written_as_it_was_read(cell: Cell, azimuth: float) -> None:
    turned = cell.model_copy(update={"yaw": to_direction(azimuth)})
    assert CellDescription.of(turned).azimuth_deg == azimuth
    assert CellDescription.of(turned).to_cell() == turned


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
