"""Files in other formats and layouts than the convention: read as what they mean, or refused with what they have."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from reference_db import AntennaArray, Cell, Fingerprints, LocalFrame, read_fingerprint_file
from reference_db.cell_description import read_description, write_description
from reference_db.errors import BadFingerprint, BadFingerprintFile
from reference_db.fingerprint_file import FingerprintFile
from reference_db.layout import Layout

Arrays = dict[str, np.ndarray]
Write = Callable[[Path, Arrays], Path]

N = 12
CELL = Cell(
    cell_id="market",
    latitude_deg=48.0,
    longitude_deg=11.0,
    height=10.0,
    yaw=0.3,
    array=AntennaArray(rows=2, columns=2, polarisations=2),
    carrier_frequency=3.5e9,
    bandwidth=40e6,
    subcarriers=6,
)
DESCRIBED = read_description(write_description(CELL))  # an azimuth is rounded


@pytest.fixture(scope="module")
def csi() -> np.ndarray:
    random = np.random.default_rng(0)
    shape = (N, CELL.antennas, CELL.subcarriers)
    return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(np.complex64)


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return np.random.default_rng(1).uniform(-50, 50, (N, 2)).round(2)


def _write_npz(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "survey.npz", **arrays)
    return folder / "survey.npz"


def _write_npy(folder: Path, arrays: Arrays) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"street-{name}.npy", array)
    name = next(name for name in ("csi", "H") if name in arrays)
    return folder / f"street-{name}.npy"


def _write_mat(folder: Path, arrays: Arrays) -> Path:
    savemat(folder / "survey.mat", arrays)
    return folder / "survey.mat"


def _write_mat73(folder: Path, arrays: Arrays) -> Path:
    """As MATLAB writes it: axes in reverse order, complex numbers as pairs, a header of 512 bytes."""
    path = folder / "survey73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            whole = np.atleast_2d(array)
            if np.iscomplexobj(whole):
                pairs = np.zeros(whole.T.shape, [("real", "<f8"), ("imag", "<f8")])
                pairs["real"], pairs["imag"] = whole.T.real, whole.T.imag
                whole = pairs.T
            file[name] = whole.T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def _write_csv(folder: Path, arrays: Arrays) -> Path:
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name in ("csi", "H"):
            for antenna in range(array.shape[1]):
                for subcarrier in range(array.shape[2]):
                    place = f"{name}_{antenna + 1}_{subcarrier + 1}"
                    columns[f"{place}_re"] = array[:, antenna, subcarrier].real
                    columns[f"{place}_im"] = array[:, antenna, subcarrier].imag
        elif name in ("positions", "pos"):
            columns |= {"x": array[:, 0], "y": array[:, 1]}
        else:
            columns[name] = array
    path = folder / "survey.csv"
    rows = np.stack(list(columns.values()), axis=1)
    np.savetxt(path, rows, delimiter=",", header=",".join(columns), comments="", fmt="%.17g")
    return path


FORMATS = {"npz": _write_npz, "npy": _write_npy, "mat": _write_mat, "mat73": _write_mat73, "csv": _write_csv}


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def write(request: pytest.FixtureRequest) -> Write:
    made: Write = request.param
    return made


def read(path: Path, **layout: object) -> Fingerprints:
    return read_fingerprint_file(path, CELL, Layout.read(**layout))[1]


def test_every_format_gives_the_same_fingerprints(
    write: Write, csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    """Under the names of the convention, or other usual ones."""
    times = 1.7e9 + np.arange(N)
    for names in (("csi", "positions", "times", "sigmas"), ("H", "pos", "timestamps", "sigma")):
        folder = tmp_path / names[0]
        folder.mkdir()
        made = read(write(folder, dict(zip(names, (csi, positions, times, np.full(N, 0.2)), strict=True))))
        np.testing.assert_allclose(made.csi, csi, rtol=1e-5)
        np.testing.assert_allclose(made.positions, positions, atol=1e-4)
        np.testing.assert_array_equal(made.times, times)
        np.testing.assert_allclose(made.sigmas, 0.2)


def test_transposed_csi_of_every_format_is_refused_with_the_axes_that_fit(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    for name, write in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        path = write(folder, {"csi": csi.swapaxes(1, 2), "positions": positions})
        with pytest.raises(BadFingerprint, match="axes are samples,subcarriers,antennas"):
            read(path)
        np.testing.assert_allclose(read(path, axes="samples,subcarriers,antennas").csi, csi, rtol=1e-5)


LAYOUTS: list[tuple[Callable[[np.ndarray], np.ndarray], dict[str, object]]] = [
    (lambda csi: csi.transpose(1, 2, 0), {"axes": "antennas,subcarriers,samples"}),
    (lambda csi: csi.transpose(2, 0, 1), {"axes": "subcarriers,samples,antennas"}),
    (lambda csi: csi.swapaxes(1, 2), {"axes": "subcarriers,antennas"}),
    (lambda csi: csi.conj(), {"conjugate": True}),
    (lambda csi: csi[..., ::-1], {"subcarrier_order": "descending"}),
    (lambda csi: np.fft.ifftshift(csi, axes=-1), {"subcarrier_order": "fft"}),
    (lambda csi: csi.reshape(N, 2, 2, 2, 6), {"axes": "polarisations,rows,columns,subcarriers"}),
    (lambda csi: csi.reshape(N, 4, 2, 6).swapaxes(1, 2), {"axes": "columns,rows,subcarriers"}),
    (lambda csi: csi.reshape(N, 4, 2, 6).swapaxes(1, 2).reshape(N, 8, 6), {"axes": "columns,rows,subcarriers"}),
    (lambda csi: csi.reshape(N, 4, 2, 6)[:, :, ::-1].reshape(N, 8, 6), {"axes": "rows,-columns,subcarriers"}),
    (lambda csi: csi.reshape(N, 48), {}),
    (lambda csi: csi.swapaxes(1, 2).reshape(N, 48), {"axes": "subcarriers,antennas"}),
    (lambda csi: np.stack([csi.real, csi.imag], axis=-1), {}),
    (lambda csi: np.stack([csi.real, csi.imag], axis=1), {"axes": "reim,antennas,subcarriers"}),
]


@pytest.mark.parametrize(("change", "layout"), LAYOUTS, ids=[str(layout) for _, layout in LAYOUTS])
def test_any_layout_becomes_the_convention(
    csi: np.ndarray,
    positions: np.ndarray,
    tmp_path: Path,
    change: Callable[[np.ndarray], np.ndarray],
    layout: dict[str, object],
) -> None:
    path = _write_npz(tmp_path, {"csi": change(csi), "positions": positions})
    np.testing.assert_allclose(read(path, **layout).csi, csi, rtol=1e-5)


def test_samples_that_are_not_first_are_noticed(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, {"csi": csi.transpose(1, 2, 0), "positions": positions})
    with pytest.raises(BadFingerprintFile, match="it fits --axes antennas,subcarriers,samples"):
        read(path)
    with pytest.raises(BadFingerprintFile, match="it fits --axes antennas,subcarriers,samples"):
        read(path, axes="subcarriers,samples,antennas")


@pytest.mark.parametrize("units", ["m", "km", "cm", "mm", "ft"])
def test_positions_in_other_units_become_metres(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path, units: str
) -> None:
    metres = {"m": 1, "km": 1000, "cm": 0.01, "mm": 0.001, "ft": 0.3048}[units]
    path = _write_npz(tmp_path, {"csi": csi, "positions": positions / metres})
    np.testing.assert_allclose(read(path, units=units).positions, positions, atol=1e-3)


def test_positions_are_taken_from_the_origin_in_units_of_the_file(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    path = _write_npz(tmp_path, {"csi": csi, "positions": positions * 100 + [250, -4000]})
    made = read(path, units="cm", origin="250,-4000").positions
    np.testing.assert_allclose(made, positions, atol=1e-3)
    with_heights = np.concatenate([positions + np.array([2.5, -40]), np.ones((N, 1))], axis=1)
    again = read(_write_mat(tmp_path, {"H": csi, "pos": with_heights}), origin=(2.5, -40)).positions
    np.testing.assert_allclose(again, positions, atol=1e-3)


def test_degrees_have_no_origin_in_metres(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    frame = LocalFrame(CELL.latitude_deg, CELL.longitude_deg)
    lat, lon = frame.to_wgs84(*positions.T)
    path = _write_mat(tmp_path, {"H": csi, "lat": lat, "lon": lon, "gps": np.stack([lat, lon], axis=1)})
    for layout in ({}, {"units": "deg", "fields": {"positions": "gps"}}):
        with pytest.raises(BadFingerprintFile, match="the origin is for positions that are distances"):
            read(path, origin="1,2", **layout)


@pytest.mark.parametrize("subcarriers", range(1, 14))
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_every_few_subcarriers_keep_the_carrier_where_a_cell_has_it(
    positions: np.ndarray, tmp_path: Path, subcarriers: int, step: int
) -> None:
    """The carrier is subcarrier S // 2, of as many as are kept."""
    offsets = np.arange(subcarriers) - subcarriers // 2
    csi = np.broadcast_to(100 + offsets + 0j, (N, 8, subcarriers))
    path = _write_npz(tmp_path, {"csi": csi, "positions": positions})
    layout = Layout.read(subcarrier_step=step)
    made = layout.lay_out(FingerprintFile.open(path, layout).arrays, None)["csi"][0, 0].real - 100
    np.testing.assert_array_equal(made, (np.arange(len(made)) - len(made) // 2) * step)
    assert len(made) == (offsets % step == 0).sum()


def test_degrees_become_metres_and_exchanged_ones_are_noticed(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    frame = LocalFrame(CELL.latitude_deg, CELL.longitude_deg)
    degrees = np.stack(frame.to_wgs84(*positions.T), axis=1)
    path = _write_mat(tmp_path, {"H": csi, "gps": degrees})
    made = read(path, units="deg", fields={"positions": "gps"})
    np.testing.assert_allclose(made.positions, positions, atol=1e-3)
    vectors = _write_mat(tmp_path, {"H": csi, "lat": degrees[:, :1], "lon": degrees[:, 1:]})
    np.testing.assert_allclose(read(vectors).positions, positions, atol=1e-3)
    exchanged = _write_mat(tmp_path, {"H": csi, "lat": degrees[:, 1], "lon": degrees[:, 0]})
    with pytest.raises(BadFingerprint, match=r"with latitude and longitude exchanged it is \d+ m away"):
        read(exchanged)


def test_positions_may_lie_on_their_side_and_have_heights(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    with_heights = np.concatenate([positions, np.full((N, 1), 1.5)], axis=1)
    np.testing.assert_allclose(
        read(_write_mat(tmp_path, {"H": csi, "pos": with_heights.T})).positions, positions, atol=1e-4
    )


def test_a_file_of_matlab_may_describe_its_cell_and_hold_structures(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    described = {"survey": {"H": csi, "pos": positions, "sigma": 0.3}, "cell": write_description(CELL)}
    savemat(tmp_path / "own.mat", described)
    cell, made = read_fingerprint_file(tmp_path / "own.mat")
    assert cell == DESCRIBED
    np.testing.assert_allclose(made.csi, csi, rtol=1e-6)
    np.testing.assert_allclose(made.sigmas, 0.3)
    path = _write_mat73(tmp_path, {"H": csi, "pos": positions})
    with h5py.File(path, "r+") as file:
        file["cell"] = np.array([[ord(letter)] for letter in write_description(CELL)], np.uint16)
    assert read_fingerprint_file(path)[0] == DESCRIBED


def test_what_a_file_lacks_is_said_with_what_it_has(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = _write_mat(tmp_path, {"Hest": csi, "pos": positions, "rssi": np.zeros(N)})
    with pytest.raises(BadFingerprintFile, match=r"csi is missing; the file has Hest \(complex64 \[12, 8, 6\]\), pos"):
        read(path)
    file = FingerprintFile.open(path, Layout.read(fields={"csi": "Hest"}))
    np.testing.assert_allclose(file.fingerprints(CELL).csi, csi, rtol=1e-6)
    assert file.unused == ("rssi",)
    with pytest.raises(BadFingerprintFile, match="if Hest is the CSI, state --field csi=Hest"):
        read(path)
    with pytest.raises(BadFingerprintFile, match="there is no Hnew for csi"):
        read(path, fields={"csi": "Hnew"})
    both = _write_mat(tmp_path, {"H": csi, "cfr": csi, "pos": positions})
    with pytest.raises(BadFingerprintFile, match="may be csi; choose with --field csi=NAME"):
        read(both)
    real = _write_mat(tmp_path, {"H": csi.real, "pos": positions})
    with pytest.raises(BadFingerprintFile, match="real numbers"):
        read(real)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x,y\n1,2\n", "csi is missing"),
        ("x,x,csi_0_0_re,csi_0_0_im\n", "each once"),
        ("x,y,csi_0_0_re,csi_0_0_im\n1,2,3\n", "line 2 has 3 values"),
        ("x,y,csi_0_0_re,csi_0_0_im\n1,2,3,wet\n", "line 2, column csi_0_0_im: 'wet' is not a number"),
        ("x,y,csi_0_0_re\n1,2,3\n", "csi_0_0_re and csi_0_0_im must both"),
        ("x,y,csi_0_0,csi_0_1,csi_1_0\n1,2,3,4j,5\n", "csi_1_1_re"),
        ("x,y,csi_5_0\n1,2,3\n", "count from 0 or from 1"),
        ("x,y,csi_0_0_re,csi_0_0_im,CSI_0_0_RE\n1,2,3,4,5\n", "csi_0_0_re and CSI_0_0_RE are the same number"),
        ("x,y,csi_0_0,h_0_0\n1,2,3j,4\n", "csi_0_0 and h_0_0 are the same number"),
        ("x,y,csi_0_0,csi_0_1\n1,2,3,4\n", "hold real numbers"),
        ("x,y,csi_0_0,csi_9999999_9999999\n1,2,3j,4\n", "csi_0_1_re and csi_0_1_im must both"),
        (f"x,y,csi_0_{'9' * 5000}_re\n1,2,3\n", "csi is missing"),
        ("x;y;csi_0_0_re;csi_0_0_im\n1,5;2;3;4\n", "'1,5' is not a number; decimals need a point"),
        ("x,y,csi_0_0_re,csi_0_0_im\n1_000,2,3,4\n", "'1_000' is not a number"),
        ("x,y,csi_0_0_re,csi_0_0_im\n2026-11-30,2,3,4\n", "'2026-11-30' is not a number"),
    ],
)
def test_wrong_tables_are_refused_with_their_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "survey.csv"
    path.write_text(text)
    with pytest.raises(BadFingerprintFile, match=f"survey.csv: .*{complaint}"):
        read(path)


def test_a_table_may_have_complex_numbers_and_dates(tmp_path: Path) -> None:
    cell = CELL.model_copy(update={"array": AntennaArray(rows=1, columns=1), "subcarriers": 2})
    path = tmp_path / "survey.csv"
    path.write_text("time;lat;lon;H(1);H(2)\n2026-11-30T12:00:00Z;48.0001;11;1+2i;-3i\n2026-11-30;48;11;1e-3;2\n")
    made = read_fingerprint_file(path, cell)[1]
    np.testing.assert_allclose(made.csi[:, 0], [[1 + 2j, -3j], [1e-3, 2]])
    np.testing.assert_allclose(made.positions[0], [0, 11.12], atol=0.01)
    assert made.times[0] - made.times[1] == 12 * 3600


def test_a_second_place_of_fingerprints_is_refused_unless_one_is_named(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    east, north = positions.T
    for beside in ({"x": east + 100, "y": north}, {"x": east}):
        path = _write_npz(tmp_path, {"csi": csi, "positions": positions, **beside})
        with pytest.raises(BadFingerprintFile, match=r"both .* and positions; choose with --field positions=NAME"):
            read(path)
        np.testing.assert_allclose(read(path, fields={"positions": "positions"}).positions, positions, atol=1e-4)
    with pytest.raises(BadFingerprintFile, match="the file has x alone"):
        read(_write_npz(tmp_path, {"csi": csi, "x": east}))


def test_x_and_y_are_never_degrees(csi: np.ndarray, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, {"csi": csi, "x": 48 + np.arange(N) * 1e-5, "y": np.full(N, 11.0)})
    with pytest.raises(BadFingerprintFile, match="x and y are distances east and north, not degrees"):
        read(path, units="deg")
    named = {"latitudes_deg": "x", "longitudes_deg": "y"}
    assert read(path, units="deg", fields=named).positions[-1, 1] == pytest.approx((N - 1) * 1.112, abs=0.01)


def test_scale_belongs_to_real_pairs_in_any_layout(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, {"csi": csi, "positions": positions, "scale": np.ones(N)})
    for layout in ({}, {"conjugate": True}):
        with pytest.raises(BadFingerprintFile, match="scale is only allowed with csi of real pairs"):
            read(path, **layout)


def test_positions_in_float16_are_as_coarse_in_any_unit(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> None:
    path = _write_npz(tmp_path, {"csi": csi, "positions": (positions * 1000).astype(np.float16)})
    with pytest.raises(BadFingerprint, match="float16 rounds positions to"):
        read_fingerprint_file(path, CELL, Layout.read(units="cm"))


def test_arrays_beside_the_csi_matter_only_if_they_are_used(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    path = _write_npy(tmp_path, {"csi": csi, "positions": positions})
    np.save(tmp_path / "street-labels.npy", np.array([None]), allow_pickle=True)
    (tmp_path / "street-empty.npy").touch()
    (tmp_path / "street-gone.npy").symlink_to(tmp_path / "nowhere")
    (tmp_path / "street-folder.npy").mkdir()
    assert len(read(path)) == N
    with pytest.raises(BadFingerprintFile, match=r"street-empty\.npy is not an array"):
        read(path, fields={"times": "empty"})
    other = tmp_path / "weird.npy"
    np.save(other, csi)
    np.save(tmp_path / "positions.npy", positions)
    with pytest.raises(BadFingerprintFile, match=r"weird.npy: the name does not say that it holds CSI"):
        read(other)


def test_scalars_of_matlab_stand_for_each_row_of_positions_on_their_side(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path
) -> None:
    made = read(_write_mat(tmp_path, {"H": csi, "pos": positions.T, "sigma": 0.3, "time": 1.7e9}))
    np.testing.assert_allclose(made.sigmas, np.full(N, 0.3))
    np.testing.assert_array_equal(made.times, np.full(N, 1.7e9))


@pytest.mark.parametrize("parts", [("re", "im"), ("r", "i")])
def test_complex_numbers_of_hdf5_may_have_parts_of_other_names(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path, parts: tuple[str, str]
) -> None:
    path = _write_mat73(tmp_path, {"pos": positions})
    pairs = np.zeros(csi.T.shape, [(name, "<f8") for name in parts])
    pairs[parts[0]], pairs[parts[1]] = csi.T.real, csi.T.imag
    with h5py.File(path, "r+") as file:
        file["H"] = pairs
    np.testing.assert_allclose(read(path).csi, csi, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"MATLAB 5.0 MAT-file".ljust(512), "a MATLAB file"),
        (b"\x93NUMPY\x01\x00", "an array of NumPy"),
        (b"<html>login</html>", "text"),
        (b"x,y,csi_0_0_re,csi_0_0_im\n1,2,3,4\n", "text"),
        (b'{"a": 1}', "text"),
    ],
)
def test_a_wrong_suffix_is_noticed(tmp_path: Path, suffix: str, content: bytes, named: str) -> None:
    path = tmp_path / f"survey{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadFingerprintFile, match=f"it is {named}.*, neither safetensors nor npz"):
        read(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"axes": "antennas,frequency"}, "no axis is called 'frequency'"),
        ({"axes": "antennas,rows,subcarriers"}, "either antennas, or rows and columns"),
        ({"axes": "antennas,antennas"}, "named twice"),
        ({"units": "inch"}, "units: "),
        ({"fields": {"rssi": "x"}}, "no field is called 'rssi'"),
    ],
)
def test_layouts_that_do_not_exist_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadFingerprintFile, match=complaint):
        Layout.read(**options)


@pytest.mark.parametrize(("suffix", "package"), [(".mat", "scipy"), ("73.mat", "h5py"), (".h5", "h5py")])
def test_a_missing_package_is_named_with_its_extra(
    csi: np.ndarray, positions: np.ndarray, tmp_path: Path, suffix: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _write_mat if suffix == ".mat" else _write_mat73
    path = write(tmp_path, {"H": csi, "pos": positions})
    if suffix == ".h5":
        path = path.rename(path.with_suffix(suffix))

    def fail(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("reference_db.sources.extras.import_module", fail)
    with pytest.raises(BadFingerprintFile, match=rf"needs the package {package}: pip install 'fingerpost\[matlab\]'"):
        read(path)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".mat", ".xyz"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"csi{suffix}"
    header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': ((((".ljust(118)
    for content in (
        b"",
        header,
        b"PK\x05\x06" + bytes(18),
        b"\x80garbage" * 9,
        b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(99),
    ):
        path.write_bytes(content)
        with pytest.raises(BadFingerprintFile):
            read(path)
