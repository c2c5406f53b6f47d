"""Captures of the Linux 802.11n CSI Tool, written here bit by bit."""

import struct
from pathlib import Path

import numpy as np
import pytest

from reference_db import BadFingerprintFile, read_fingerprint_file
from reference_db.sources.source import open_source
from tests.reference_db.sources.conftest import N, describe

RECEIVE, TRANSMIT, GROUPS = 3, 2, 30


def record(csi: np.ndarray, microseconds: int, order: tuple[int, ...] = (0, 1, 2)) -> bytes:
    """Integers `[30, receive, transmit]` as the card sends them. `order`: the sockets of its receive antennas."""
    bits = ""
    for group in csi:
        bits += "000"  # little-endian: the first bit is the lowest
        for number in group.reshape(-1):
            for part in (int(number.real), int(number.imag)):
                bits += format(part & 0xFF, "08b")[::-1]
    bits += "0" * (-len(bits) % 8)
    payload = bytes(int(bits[place : place + 8][::-1], 2) for place in range(0, len(bits), 8))
    _, receive, transmit = csi.shape
    antennas = sum(socket << 2 * place for place, socket in enumerate(order))
    head = struct.pack(
        "<IHHBBBBBbBBHH", microseconds, 1, 0, receive, transmit, 33, 30, 27, -92, 25, antennas, len(payload), 0x1101
    )
    return struct.pack(">HB", 1 + len(head) + len(payload), 0xBB) + head + payload


@pytest.fixture
def csi(random: np.random.Generator) -> np.ndarray:
    """Integers from -128 to 127, [N, 30, receive, transmit]."""
    parts = random.integers(-128, 128, (2, N, GROUPS, RECEIVE, TRANSMIT))
    return np.asarray(parts[0] + 1j * parts[1])


@pytest.fixture
def capture(csi: np.ndarray, positions: np.ndarray, tmp_path: Path) -> Path:
    """A packet every 0.1 s, among records of another code. The card's clock starts again after the third."""
    clock = (np.arange(N) * 100_000 - 300_000) % (1 << 32)
    other = struct.pack(">HB", 5, 0xC1) + b"ABCD"
    content = b"".join(other + record(one, int(time)) for one, time in zip(csi, clock, strict=True))
    (tmp_path / "walk.dat").write_bytes(content)
    rows = "".join(f"{number / 10},{x},{y}\n" for number, (x, y, _) in enumerate(positions.tolist()))
    (tmp_path / "positions.csv").write_text("time,x,y\n" + rows)
    return tmp_path / "walk.dat"


def test_csi_of_the_first_transmit_antenna_and_positions_come_back_exactly(
    capture: Path, csi: np.ndarray, positions: np.ndarray
) -> None:
    _, made = read_fingerprint_file(capture, describe(RECEIVE, GROUPS))
    np.testing.assert_array_equal(made.csi, csi[..., 0].swapaxes(1, 2))
    np.testing.assert_allclose(made.positions, positions[:, :2], rtol=1e-6)
    assert open_source(capture).notes == ()


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_antennas_are_in_the_order_of_their_sockets(
    csi: np.ndarray, tmp_path: Path, order: tuple[int, int, int]
) -> None:
    (tmp_path / "walk.dat").write_bytes(record(csi[0], 0, order))
    (tmp_path / "walk.csv").write_text("packet,x,y\n0,1,2\n")
    _, made = read_fingerprint_file(tmp_path / "walk.dat", describe(RECEIVE, GROUPS))
    for place, socket in enumerate(order):
        np.testing.assert_array_equal(made.csi[0, socket], csi[0, :, place, 0])


def test_packets_without_a_position_are_left_out(capture: Path, csi: np.ndarray) -> None:
    capture.with_suffix(".csv").write_text("packet,x,y\n4,1,2\n1,3,4\n")
    _, made = read_fingerprint_file(capture, describe(RECEIVE, GROUPS))
    np.testing.assert_array_equal(made.csi, csi[[1, 4], :, :, 0].swapaxes(1, 2))
    assert made.positions.tolist() == [[3, 4], [1, 2]]
    assert open_source(capture).notes == (f"2 of {N} packets are used; {N - 2} have no position",)


def test_a_packet_without_a_signal_is_left_out_and_counted(csi: np.ndarray, tmp_path: Path) -> None:
    csi[1, :, :, 0] = 0  # of the first transmit antenna, the one that is read
    csi[2, :, 1:] = 0
    (tmp_path / "walk.dat").write_bytes(b"".join(record(one, 100 * number) for number, one in enumerate(csi)))
    (tmp_path / "walk.csv").write_text("packet,x,y,sigma\n0,1,2,0.1\n1,3,4,0.2\n2,5,6,0.3\n")
    _, made = read_fingerprint_file(tmp_path / "walk.dat", describe(RECEIVE, GROUPS))
    np.testing.assert_array_equal(made.csi, csi[[0, 2], :, :, 0].swapaxes(1, 2))
    assert made.positions.tolist() == [[1, 2], [5, 6]]
    np.testing.assert_allclose(made.sigmas, [0.1, 0.3])
    expected = f"2 of {N} packets are used; {N - 3} have no position, 1 has no signal"
    assert open_source(tmp_path / "walk.dat").notes == (expected,)
    (tmp_path / "walk.csv").write_text("packet,x,y\n1,3,4\n")
    with pytest.raises(BadFingerprintFile, match=r"^walk\.dat: no packet with a position has a signal"):
        read_fingerprint_file(tmp_path / "walk.dat", describe(RECEIVE, GROUPS))


@pytest.mark.parametrize("cut", [1, 2, 20, -1])
def test_of_a_capture_that_is_cut_off_the_whole_packets_are_read(capture: Path, csi: np.ndarray, cut: int) -> None:
    whole = capture.read_bytes()
    size = len(whole) // N
    capture.write_bytes(whole[: 2 * size + 7 + cut] if cut > 0 else whole[:-1])
    count = 2 if cut > 0 else N - 1
    _, made = read_fingerprint_file(capture, describe(RECEIVE, GROUPS))
    np.testing.assert_array_equal(made.csi, csi[:count, :, :, 0].swapaxes(1, 2))
    assert open_source(capture).notes == (f"the file is cut off after {count} whole packets",)


def test_other_files_and_packets_that_contradict_themselves_are_refused(capture: Path, csi: np.ndarray) -> None:
    good = record(csi[0], 0)
    four = bytearray(good)
    four[3 + 8] = 4  # receive antennas
    for content, complaint in (
        (struct.pack(">HB", 3, 0xC1) + b"AB", "it has no CSI: no record with code 0xBB"),
        (b"\0\0\0\0", "no capture of the CSI Tool after 0 whole packets, at byte 0"),
        (b"", r"^walk\.dat: it is no capture of the CSI Tool: it has no whole packet$"),
        (b"time,x,y\n1,2,3\n", r"^walk\.dat: it is no capture of the CSI Tool: it has no whole packet$"),
        (good[:-1], r"^walk\.dat: it is no capture of the CSI Tool: it has no whole packet$"),
        (bytes(four), r"packet 0 has 372 bytes of CSI and says 372; 4 receive"),
        (struct.pack(">HB", 3, 0xBB) + b"AB", "packet 0 is shorter than its head"),
        (good + record(csi[0][:, :2], 0, (0, 1)), "packet 1 has 2 receive antennas, those before it 3"),
    ):
        capture.write_bytes(content)
        with pytest.raises(BadFingerprintFile, match=complaint):
            read_fingerprint_file(capture, describe(RECEIVE, GROUPS))


@pytest.mark.parametrize("header", ["time,x,y\n", "packet,x,y\n"])
def test_a_table_of_positions_without_rows_is_named(capture: Path, header: str) -> None:
    (capture.parent / "positions.csv").write_text(header)
    with pytest.raises(BadFingerprintFile, match=r"^walk\.dat: positions\.csv: it has no rows$"):
        read_fingerprint_file(capture, describe(RECEIVE, GROUPS))


def test_a_table_that_places_no_packet_says_so(capture: Path) -> None:
    (capture.parent / "positions.csv").write_text("time,x,y\n100,1,1\n101,1,1\n")
    with pytest.raises(BadFingerprintFile, match=r"^walk\.dat: positions\.csv: no packet has a position: packets go"):
        read_fingerprint_file(capture, describe(RECEIVE, GROUPS))


def test_a_packet_out_of_order_keeps_its_time_and_those_after_it_theirs(
    capture: Path, csi: np.ndarray, tmp_path: Path
) -> None:
    order = [0, 2, 1, *range(3, N)]
    content = b"".join(record(csi[row], 100_000 * row) for row in order)
    capture.write_bytes(content)
    _, made = read_fingerprint_file(capture, describe(RECEIVE, GROUPS))
    assert len(made) == N
    np.testing.assert_array_equal(made.csi, csi[order, :, :, 0].swapaxes(1, 2))
    rows = (tmp_path / "positions.csv").read_text().splitlines()[1:]
    places = np.array([[float(cell) for cell in row.split(",")[1:]] for row in rows])
    np.testing.assert_allclose(made.positions, places[order], rtol=1e-6)
