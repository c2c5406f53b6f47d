"""Captures of Nexmon CSI, written here byte by byte."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_db import BadFingerprintFile, read_fingerprint_file
from reference_db.data_folder import read_data_files
from reference_db.fingerprint_file import FingerprintFile
from reference_db.layout import CONVENTION
from reference_db.sources.source import open_source
from tests.reference_db.sources.conftest import N, describe

CORES, FFT, LAST = 2, 64, 26
KEPT = 2 * LAST + 1
BEGIN = 1_790_000_000


def as_integers(csi: np.ndarray) -> bytes:
    return np.stack([csi.real, csi.imag], axis=-1).astype("<i2").tobytes()


def as_floats(csi: np.ndarray, mantissa: int = 12, exponent: int = 6, scale: int = -3) -> bytes:
    """The words of a bcm4366c0: sign and magnitude of both parts, and a common exponent."""
    words = []
    for number in csi:
        word = scale & ((1 << exponent) - 1)
        for part, shift in ((number.imag, exponent), (number.real, exponent + mantissa)):
            word |= (int(abs(part)) | (int(part < 0) << (mantissa - 1))) << shift
        words.append(word)
    return np.array(words, "<u4").tobytes()


def udp(csi: bytes, sequence: int, core: int = 0, stream: int = 0, chip: int = 0x65, **wrong: Any) -> bytes:
    """An Ethernet frame as the firmware sends it."""
    payload = b"\x11\x11" + struct.pack("<bB6sHHHH", -50, 0x88, b"sender", sequence, core | stream << 3, 0xE02A, chip)
    payload += csi
    port, padding = wrong.get("port", 5500), wrong.get("padding", b"")
    ip = b"\x45" + bytes(8) + b"\x11" + bytes(2) + bytes([10] * 4) + b"\xff" * 4
    return (
        b"\xff" * 6
        + b"NEXMON"
        + b"\x08\x00"
        + ip
        + struct.pack(">HHHH", 5500, port, 8 + len(payload), 0)
        + payload
        + padding
    )


def pcap(
    path: Path, packets: list[tuple[float, bytes]], magic: int = 0xA1B2C3D4, link: int = 1, order: str = "<"
) -> Path:
    parts = 1e9 if magic == 0xA1B23C4D else 1e6
    content = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for time, packet in packets:
        whole = int(time)
        content += struct.pack(f"{order}IIII", whole, round((time - whole) * parts), len(packet), len(packet)) + packet
    path.write_bytes(content)
    return path


@pytest.fixture
def channel(random: np.random.Generator) -> np.ndarray:
    """Integers [N, cores, subcarriers of the FFT], by ascending frequency; the null subcarrier is on a line."""
    parts = random.integers(-500, 500, (2, N, CORES, FFT))
    made = (parts[0] + 1j * parts[1]).astype(np.complex64)
    made[..., FFT // 2] = (made[..., FFT // 2 - 1] + made[..., FFT // 2 + 1]) / 2
    return made


@pytest.fixture
def kept(channel: np.ndarray) -> np.ndarray:
    return channel[..., FFT // 2 - LAST : FFT // 2 + LAST + 1]


@pytest.fixture
def wire(channel: np.ndarray) -> np.ndarray:
    """In the order of an FFT, with nonsense on guard and null subcarriers."""
    made = channel.copy()
    made[..., : FFT // 2 - LAST] = 9999
    made[..., FFT // 2 + LAST + 1 :] = -9999j
    made[..., FFT // 2] = 7777
    return np.fft.ifftshift(made, axes=-1)


@pytest.fixture
def table(positions: np.ndarray, tmp_path: Path) -> Path:
    rows = "".join(f"{number},{x},{y}\n" for number, (x, y, _) in enumerate(positions.tolist()))
    (tmp_path / "walk.csv").write_text("packet,x,y\n" + rows)
    return tmp_path / "walk.pcap"


def packets(wire: np.ndarray, **fields: Any) -> list[tuple[float, bytes]]:
    """One packet a core, and a second spatial stream that is not read."""
    made = []
    for number, cores in enumerate(wire):
        for stream in (1, 0):
            for core in (1, 0):
                csi = as_integers(cores[core] + (3 if stream else 0))
                made.append((BEGIN + number * 0.25, udp(csi, 100 + number, core, stream, **fields)))
    return made


def test_csi_positions_and_times_come_back_exactly(
    table: Path, wire: np.ndarray, kept: np.ndarray, positions: np.ndarray
) -> None:
    path = pcap(table, packets(wire))
    _, made = read_fingerprint_file(path, describe(CORES, KEPT))
    np.testing.assert_array_equal(made.csi, kept)
    np.testing.assert_allclose(made.positions, positions[:, :2], rtol=1e-6)
    np.testing.assert_allclose(made.times, BEGIN + np.arange(N) * 0.25, atol=1e-6)
    assert open_source(path).notes == ()


@pytest.mark.parametrize(
    ("order", "magic"), [("<", 0xA1B2C3D4), (">", 0xA1B2C3D4), ("<", 0xA1B23C4D), (">", 0xA1B23C4D)]
)
def test_pcap_files_of_any_byte_order_and_clock_are_read(
    table: Path, wire: np.ndarray, kept: np.ndarray, order: str, magic: int
) -> None:
    path = pcap(table, packets(wire), magic, order=order)
    _, made = read_fingerprint_file(path, describe(CORES, KEPT))
    np.testing.assert_array_equal(made.csi, kept)
    np.testing.assert_allclose(made.times, BEGIN + np.arange(N) * 0.25, atol=1e-6)


@pytest.mark.parametrize(("chip", "mantissa", "exponent"), [(0x6A, 12, 6), (0xDEAD, 9, 5)])
def test_floats_of_other_chips_are_read(
    table: Path, wire: np.ndarray, kept: np.ndarray, chip: int, mantissa: int, exponent: int
) -> None:
    """Signs, magnitudes and the common exponent, here 2 ** -3. Magnitudes have 11 or 8 bits."""
    whole = np.trunc(wire.real / 2) + 1j * np.trunc(wire.imag / 2)
    limit = (1 << (mantissa - 1)) - 1
    small = np.clip(whole.real, -limit, limit) + 1j * np.clip(whole.imag, -limit, limit)
    made = [
        (BEGIN + number * 1.0, udp(as_floats(cores[core], mantissa, exponent), number, core, chip=chip))
        for number, cores in enumerate(small)
        for core in range(CORES)
    ]
    _, read = read_fingerprint_file(pcap(table, made), describe(CORES, KEPT))
    expected = np.fft.fftshift(small, axes=-1)[..., FFT // 2 - LAST : FFT // 2 + LAST + 1] / 8
    carrier = LAST
    np.testing.assert_array_equal(np.delete(read.csi, carrier, axis=2), np.delete(expected, carrier, axis=2))


@pytest.mark.parametrize(("fft", "last", "null"), [(128, 58, 1), (256, 122, 1)])
def test_wider_channels_keep_the_subcarriers_that_carry_data(
    table: Path, random: np.random.Generator, fft: int, last: int, null: int
) -> None:
    ramp = np.arange(-fft // 2, fft // 2) * (2 + 1j)
    wire = np.fft.ifftshift(ramp)
    wire[[*range(null + 1), *range(fft - null, fft)]] = 5555
    made = [(BEGIN + number * 1.0, udp(as_integers(wire + number), number)) for number in range(N)]
    _, read = read_fingerprint_file(pcap(table, made), describe(1, 2 * last + 1))
    expected = np.arange(-last, last + 1) * (2 + 1j)
    np.testing.assert_allclose(read.csi[:, 0], expected + np.arange(N)[:, None], rtol=1e-6)


def test_frames_that_lack_a_core_are_left_out_and_still_counted(
    table: Path, wire: np.ndarray, kept: np.ndarray
) -> None:
    made = packets(wire)
    del made[2 * 4 + 3]  # core 0 of frame 2, stream 0
    path = pcap(table, made)
    _, read = read_fingerprint_file(path, describe(CORES, KEPT))
    np.testing.assert_array_equal(read.csi, np.delete(kept, 2, axis=0))
    note = f"{N - 1} of {N} frames are used; 1 lacks a core"
    assert open_source(path).notes == FingerprintFile.open(path).notes == (note,)
    data = read_data_files([path], describe(CORES, KEPT), CONVENTION)
    assert data.notes == [f"{path.name}: {note}"]


def test_a_frame_without_a_signal_is_left_out_and_counted(table: Path, wire: np.ndarray, kept: np.ndarray) -> None:
    """Whatever its guard subcarriers hold. A frame with a signal on one core is used."""
    used = np.fft.ifftshift(np.abs(np.arange(-FFT // 2, FFT // 2)) <= LAST)
    wire[1, :, used] = 0
    wire[4, 0, used] = 0
    made = packets(wire)
    del made[2 * 4 + 3]  # core 0 of frame 2, stream 0
    path = pcap(table, made)
    table.with_suffix(".csv").write_text("packet,x,y\n1,1,1\n2,2,2\n3,3,3\n4,4,4\n")
    _, read = read_fingerprint_file(path, describe(CORES, KEPT))
    np.testing.assert_array_equal(read.csi[0], kept[3])
    assert not read.csi[1, 0].any()
    assert read.positions.tolist() == [[3, 3], [4, 4]]
    np.testing.assert_allclose(read.times, [BEGIN + 0.75, BEGIN + 1], atol=1e-6)
    expected = f"2 of {N} frames are used; {N - 4} have no position, 1 lacks a core, 1 has no signal"
    assert open_source(path).notes == (expected,)
    table.with_suffix(".csv").write_text("packet,x,y\n1,1,1\n2,2,2\n")
    with pytest.raises(BadFingerprintFile, match=r"^walk\.pcap: no frame with a position and all cores has a signal"):
        read_fingerprint_file(path, describe(CORES, KEPT))


def test_a_table_without_stays_says_how_to_place_more_frames(table: Path, wire: np.ndarray) -> None:
    path = pcap(table, packets(wire))
    table.with_suffix(".csv").write_text(f"time,x,y\n{BEGIN},1,1\n{BEGIN + 0.25},2,1\n")
    (note,) = open_source(path).notes
    assert note == (
        f"2 of {N} frames are used; {N - 2} have no position; "
        "write two rows for a point where the user stood: arrival and departure"
    )


def test_a_frame_that_is_sent_again_is_a_frame_of_its_own(table: Path, wire: np.ndarray) -> None:
    table.with_suffix(".csv").write_text("packet,x,y\n0,0,0\n1,1,1\n")
    twice = [(BEGIN + number * 1.0, udp(as_integers(wire[number, 0]), 77)) for number in range(2)]
    _, read = read_fingerprint_file(pcap(table, twice), describe(1, KEPT))
    assert len(read) == 2


def test_other_packets_and_padding_are_passed_over(table: Path, wire: np.ndarray, kept: np.ndarray) -> None:
    made = packets(wire, padding=b"\0\0\0\0")
    made.insert(1, (BEGIN, udp(as_integers(wire[0, 0]), 1, port=53)))
    made.insert(1, (BEGIN, b"short"))
    _, read = read_fingerprint_file(pcap(table, made), describe(CORES, KEPT))
    np.testing.assert_array_equal(read.csi, kept)


@pytest.mark.parametrize("cut", [3, 17, 100, -1])
def test_of_a_capture_that_is_cut_off_the_whole_packets_are_read(
    table: Path, wire: np.ndarray, kept: np.ndarray, cut: int
) -> None:
    path = pcap(table, packets(wire))
    table.with_suffix(".csv").write_text("packet,x,y\n0,1,1\n")
    whole = path.read_bytes()
    size = (len(whole) - 24) // (4 * N)
    path.write_bytes(whole[: 24 + 4 * size + cut] if cut > 0 else whole[:-1])
    count = 4 if cut > 0 else 4 * N - 1
    _, read = read_fingerprint_file(path, describe(CORES, KEPT))
    np.testing.assert_array_equal(read.csi, kept[:1])
    assert open_source(path).notes[0] == f"the file is cut off after {count} whole packets"


def test_a_wrong_length_amid_a_capture_is_damage_and_no_cut(table: Path, wire: np.ndarray) -> None:
    path = pcap(table, packets(wire))
    content = bytearray(path.read_bytes())
    size = (len(content) - 24) // (4 * N)
    content[24 + 3 * size + 11] = 0x7F  # the highest byte of a length
    path.write_bytes(content)
    with pytest.raises(BadFingerprintFile, match=r"damaged after 3 whole packets, at byte \d+: a packet of 21307"):
        read_fingerprint_file(path, describe(CORES, KEPT))


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: b"\x0a\x0d\x0d\x0a" + content, "it is a pcapng file; save it as pcap"),
        (lambda content: b"x,y" + content, "it is not a pcap file"),
        (
            lambda content: content[:20] + struct.pack("<I", 127) + content[24:],
            "its link type is 127, expected Ethernet",
        ),
        (lambda content: content[:24], "it is no capture of Nexmon CSI: it has no whole packet"),
        (lambda content: content[:99], "it is no capture of Nexmon CSI: it has no whole packet"),
        (lambda content: content.replace(b"\x11\x11", b"\x12\x12"), "it has no CSI: no UDP packet to port 5500"),
        (
            lambda content: content.replace(b"\x65\x00", b"\x99\x00", 1),
            r"packet 0 is of the chip 0x0099; read are 0x0001 \(bcm4339\), 0x0065 \(bcm43455c0\), 0x0003 \(bcm4358\), "
            r"0xdead \(bcm4358\), 0x006a \(bcm4366c0\), 0xe834 \(bcm4366c0\)",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(
    table: Path, wire: np.ndarray, change: Callable[[bytes], bytes], complaint: str
) -> None:
    path = pcap(table, packets(wire))
    _change(path, change)
    with pytest.raises(BadFingerprintFile, match=complaint) as refused:
        read_fingerprint_file(path, describe(CORES, KEPT))
    assert str(refused.value).startswith("walk.pcap: ")


def test_another_number_of_subcarriers_is_refused(table: Path, wire: np.ndarray) -> None:
    narrow = udp(as_integers(wire[0, 0])[: 4 * 60], 0)
    with pytest.raises(BadFingerprintFile, match="packet 0 has 60 subcarriers, expected 64, 128 or 256"):
        read_fingerprint_file(pcap(table, [(BEGIN, narrow)]), describe(1, KEPT))
    wide = udp(as_integers(np.tile(wire[0, 0], 2)), 1)
    mixed = [(BEGIN, udp(as_integers(wire[0, 0]), 0)), (BEGIN + 1, wide)]
    with pytest.raises(BadFingerprintFile, match="frame 1 has 128 subcarriers, those before it 64"):
        read_fingerprint_file(pcap(table, mixed), describe(1, KEPT))


@pytest.mark.parametrize("header", ["time,x,y\n", "packet,x,y\n"])
def test_a_table_of_positions_without_rows_is_named(table: Path, wire: np.ndarray, header: str) -> None:
    table.with_suffix(".csv").write_text(header)
    with pytest.raises(BadFingerprintFile, match=r"^walk\.pcap: walk\.csv: it has no rows$"):
        read_fingerprint_file(pcap(table, packets(wire)), describe(CORES, KEPT))


def test_a_table_that_places_no_packet_says_so(table: Path, wire: np.ndarray) -> None:
    table.with_suffix(".csv").write_text("time,x,y\n0,1,1\n1,1,1\n")
    with pytest.raises(BadFingerprintFile, match=r"^walk\.pcap: walk\.csv: no packet has a position: packets go from"):
        read_fingerprint_file(pcap(table, packets(wire)), describe(CORES, KEPT))
