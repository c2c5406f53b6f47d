"""TFRecords as DICHASUS publishes them, with `spec.json` and the offsets of the reference transmitter, written here."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reference_db import BadFingerprintFile, read_fingerprint_file
from reference_db.fingerprint_file import FingerprintFile
from reference_db.layout import Layout
from reference_db.sources.source import open_source
from tests.reference_db.sources.conftest import N, describe

CHANNELS, SUBCARRIERS = 8, 16
Records = list[dict[str, "np.ndarray | float"]]
SPEC = {
    "bandwidth": 50e6,
    "fc": 1.272e9,
    "antennas": [
        {"location": [1.0, 2.0, 3.0], "assignments": [[5, 2], [7, 0]]},
        {"location": [4.0, 5.0, 6.0], "assignments": [[1, 3, 4, 6]]},
    ],
}


def crc32c(data: bytes) -> int:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(array: np.ndarray) -> bytes:
    """As `tf.io.serialize_tensor` writes an array."""
    dtype = {"float32": 1, "float64": 2}[array.dtype.name]
    shape = b"".join(field(2, varint(1 << 3) + varint(size)) for size in array.shape)
    return varint(1 << 3) + varint(dtype) + field(2, shape) + field(4, array.tobytes())


def feature(value: np.ndarray | float) -> bytes:
    """A tensor as a list of one string; a number as a list of one float."""
    if isinstance(value, float):
        return field(2, field(1, struct.pack("<f", value)))
    return field(1, field(1, tensor(value)))


def write_records(path: Path, records: Records) -> Path:
    content = b""
    for record in records:
        entries = b"".join(
            field(1, field(1, name.encode()) + field(2, feature(value))) for name, value in record.items()
        )
        data = field(1, entries)
        length = struct.pack("<Q", len(data))
        content += length + masked(length) + data + masked(data)
    path.write_bytes(content)
    return path


@pytest.fixture
def channel(random: np.random.Generator) -> np.ndarray:
    """complex64 [N, channels, subcarriers], the subcarriers by ascending frequency."""
    shape = (N, CHANNELS, SUBCARRIERS)
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def records(channel: np.ndarray, positions: np.ndarray) -> Records:
    wire = np.fft.ifftshift(channel, axes=2)
    pairs = np.stack([wire.real, wire.imag], axis=-1)
    return [
        {"csi": csi, "pos-lidar": place[:2] + 1, "pos-tachy": place, "snr": np.ones(CHANNELS, np.float32), "time": 7.5}
        for csi, place in zip(pairs, positions, strict=True)
    ]


def test_csi_and_positions_come_back_exactly(
    channel: np.ndarray, positions: np.ndarray, records: Records, tmp_path: Path
) -> None:
    """Without `spec.json` the antennas are the channels."""
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    _, made = read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS))
    np.testing.assert_array_equal(made.csi, channel)
    np.testing.assert_array_equal(made.positions, positions[:, :2].astype(np.float32))
    assert not made.times.any()  # `time` is no time of day


def test_each_array_is_a_variable_with_its_rows_from_the_bottom(
    channel: np.ndarray, records: Records, tmp_path: Path
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "tfrecords").mkdir()
    path = write_records(tmp_path / "tfrecords" / "dichasus-cf02.tfrecords", records)
    for name, channels in (("array-1", [7, 0, 5, 2]), ("array-2", [1, 3, 4, 6])):
        _, made = read_fingerprint_file(path, describe(4, SUBCARRIERS), Layout.read(fields={"csi": name}))
        np.testing.assert_array_equal(made.csi, channel[:, channels])
    with pytest.raises(BadFingerprintFile, match=r"csi is missing; the file has array-1 \(complex64 \[6, 4, 16\]\)"):
        read_fingerprint_file(path, describe(4, SUBCARRIERS))


@pytest.mark.parametrize("stated", [{}, {"csi": "csi"}, {"csi": "array-1"}])
def test_one_array_alone_may_be_called_by_its_number_too(
    channel: np.ndarray, records: Records, tmp_path: Path, stated: dict[str, str]
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"antennas": SPEC["antennas"][:1]}))  # type: ignore[index]
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    opened = FingerprintFile.open(path, Layout.read(fields=stated))
    np.testing.assert_array_equal(opened.arrays["csi"], channel[:, [7, 0, 5, 2]])
    assert opened.unused == ("pos-lidar",)


def test_channels_that_are_no_array_have_no_number(records: Records, tmp_path: Path) -> None:
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    with pytest.raises(BadFingerprintFile, match=r"there is no array-1 for csi; the file has csi \(complex64"):
        FingerprintFile.open(path, Layout.read(fields={"csi": "array-1"}))


def test_files_that_are_not_beside_the_recording_are_noted(records: Records, tmp_path: Path) -> None:
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    offsets = "no reftx-offsets-dichasus-cf02.json: channels are not made coherent"
    assert open_source(path).notes == (offsets, "no spec.json: antennas are in the order of the channels")
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    assert open_source(path).notes == (offsets,)
    known = json.dumps({"sto": [0] * CHANNELS, "cpo": [0] * CHANNELS})
    (tmp_path / "reftx-offsets-dichasus-cf02.json").write_text(known)
    assert open_source(path).notes == ()


def test_an_array_without_some_of_its_antennas_is_left_out(records: Records, tmp_path: Path) -> None:
    lacking = SPEC | {"antennas": [{"assignments": [[5, 2], [7]]}, SPEC["antennas"][1]]}  # type: ignore[index]
    (tmp_path / "spec.json").write_text(json.dumps(lacking))
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    assert [name for name in open_source(path).variables if name.startswith("array")] == ["array-2"]


def test_offsets_of_the_reference_transmitter_are_taken_out(
    channel: np.ndarray, records: Records, tmp_path: Path, random: np.random.Generator
) -> None:
    sto, cpo = random.normal(size=CHANNELS), random.uniform(-np.pi, np.pi, CHANNELS)
    k = np.arange(SUBCARRIERS)
    seen = channel * np.exp(-1j * (np.outer(sto, 2 * np.pi * k / SUBCARRIERS) + cpo[:, None]))
    wire = np.fft.ifftshift(seen, axes=2)
    for record, csi in zip(records, wire, strict=True):
        record["csi"] = np.stack([csi.real, csi.imag], axis=-1).astype(np.float32)
    offsets = {"sto": sto.tolist(), "cpo": cpo.tolist()}
    (tmp_path / "reftx-offsets-dichasus-cf02.json").write_text(json.dumps(offsets))
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    _, made = read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS))
    np.testing.assert_allclose(made.csi, channel, atol=1e-5)
    other = write_records(tmp_path / "dichasus-cf03.tfrecords", records)  # its offsets are in no file
    _, unchanged = read_fingerprint_file(other, describe(CHANNELS, SUBCARRIERS))
    np.testing.assert_allclose(unchanged.csi, seen, atol=1e-5)


def test_a_person_chooses_between_positions(positions: np.ndarray, records: Records, tmp_path: Path) -> None:
    path = write_records(tmp_path / "dichasus-cf02.tfrecords", records)
    layout = Layout.read(fields={"positions": "pos-lidar"}, origin="1,1")
    _, made = read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS), layout)
    np.testing.assert_allclose(made.positions, positions[:, :2], atol=1e-5)


def _without(name: str) -> Callable[[Records], None]:
    return lambda records: records[-1].__delitem__(name)


def _with(name: str, value: np.ndarray | float, number: int = -1) -> Callable[[Records], None]:
    return lambda records: records[number].__setitem__(name, value)


def _without_positions(records: Records) -> None:
    for record in records:
        del record["pos-tachy"], record["pos-lidar"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_without("csi"), "record 5 has no tensor csi; it has pos-lidar"),
        (_without("pos-tachy"), "record 5 has no tensor pos-tachy"),
        (_with("csi", 1.0, 0), "record 0 has no tensor csi"),
        (_with("csi", np.zeros((8, 16, 2)), 0), "csi of record 0 is float64 [8, 16, 2], expected float32"),
        (_with("csi", np.zeros((8, 16), np.float32), 0), "csi of record 0 is float32 [8, 16], expected float32"),
        (_with("csi", np.zeros((8, 15, 2), np.float32)), "csi of record 5 is [8, 15], that of record 0 [8, 16]"),
        (_with("pos-tachy", np.zeros(2)), "pos-tachy is [3], expected 2 or 3 metres in each record"),
        (_without_positions, "needs either positions"),
    ],
)
def test_a_wrong_record_is_refused_in_one_line(
    records: Records, tmp_path: Path, change: Callable[[Records], None], complaint: str
) -> None:
    change(records)
    path = write_records(tmp_path / "a.tfrecords", records)
    with pytest.raises(BadFingerprintFile) as refused:
        read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS))
    assert str(refused.value).startswith("a.tfrecords: ")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cut", [1, 5, 11, 200, -1])
def test_a_file_that_is_cut_off_says_after_how_many_records(records: Records, tmp_path: Path, cut: int) -> None:
    path = write_records(tmp_path / "a.tfrecords", records)
    whole = path.read_bytes()
    size = len(whole) // N
    path.write_bytes(whole[: 2 * size + cut] if cut > 0 else whole[:-1])
    count = 2 if cut > 0 else N - 1
    with pytest.raises(
        BadFingerprintFile, match=f"the file is cut off after {count} whole records, at byte {count * size}"
    ):
        read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS))


def test_another_file_and_damaged_lengths_are_recognised_by_their_checksum(records: Records, tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecords", records)
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 1
    for content in (damaged, b"x,y,csi_0_0_re\n" * 3):
        path.write_bytes(content)
        with pytest.raises(BadFingerprintFile, match="not a TFRecord file, or damaged: a wrong checksum after 0"):
            read_fingerprint_file(path, describe(CHANNELS, SUBCARRIERS))


def test_damaged_data_is_refused_or_read_in_its_shape(records: Records, tmp_path: Path) -> None:
    """Checksums of data are not computed: a changed byte may be in a number, but never in what has another meaning."""
    path = write_records(tmp_path / "a.tfrecords", records)
    whole = path.read_bytes()
    for place in range(12, len(whole) // N - 4):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            csi = open_source(path).load("csi")
        except BadFingerprintFile:
            continue
        assert csi.shape == (N, CHANNELS, SUBCARRIERS)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("spec.json", "{", "spec.json is not JSON"),
        ("spec.json", "{}", "spec.json has no antennas with assignments"),
        ("spec.json", '{"antennas": [{"assignments": [[0, 99]]}]}', "no whole array of the 8 channels"),
        ("spec.json", '{"antennas": [{"assignments": [[0, 1], [2, 0]]}]}', "assigns a channel twice in the 1. array"),
        ("spec.json", '{"antennas": [{"assignments": [[0.9, 1.2]]}]}', "spec.json has no antennas with assignments"),
        ("spec.json", '{"antennas": [{"assignments": [[1e400, 2]]}]}', "spec.json has no antennas with assignments"),
        ("spec.json", "[" * 100_000, "spec.json is not JSON"),
        ("reftx-offsets-a.json", "[]", "does not have the numbers sto and cpo"),
        ("reftx-offsets-a.json", '{"sto": [1, 2], "cpo": [1, 2]}', r"has sto \[2\] and cpo \[2\] for 8 channels"),
    ],
)
def test_a_wrong_file_beside_the_recording_is_named(
    records: Records, tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadFingerprintFile, match=complaint):
        read_fingerprint_file(write_records(tmp_path / "a.tfrecords", records), describe(CHANNELS, SUBCARRIERS))
