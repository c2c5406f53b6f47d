"""Captures of Intel 5300 cards by the Linux 802.11n CSI Tool: `.dat` files of `log_to_file`.

A record is its length (2 bytes, big-endian) and a code; code 0xBB has the CSI of one packet. The head of those has, in
little-endian, the card's clock in microseconds (32 bits, so that it starts again after 71 minutes), the numbers of
receive and transmit antennas, RSSI, gain, and the order of the receive antennas. 30 groups of subcarriers follow, each
after three bits of padding: real and imaginary part, a signed byte each, transmit antennas fastest.

Of several transmit antennas, the first is taken. Receive antennas are in the order of the sockets A, B and C. The
numbers are as the card reports them: its gain control has scaled each packet. The 30 groups ascend in frequency: in a
channel of 20 MHz subcarriers -28, -26 ... -2, -1, 1, 3 ... 27, 28, which is nearly uniform; in one of 40 MHz every
fourth from -58 to 58.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.left_out import describe_cut, describe_left_out, find_signals
from reference_db.sources.packet_positions import place_packets
from reference_db.sources.source import Source, Variable

GROUPS = 30
_LENGTH = struct.Struct(">H")
_HEAD = struct.Struct("<IHHBBBBBbBBHH")
_CSI_CODE = 0xBB
_CLOCK_MICROSECONDS = 1 << 32


class _Packet(NamedTuple):
    microseconds: int
    csi: NDArray[np.complex64]  # [receive antennas, GROUPS]


def open_intel5300(path: Path) -> Source:
    """`csi` complex64 `[n, receive antennas, 30]` of the packets that have a position and a signal, and positions.

    The table of positions counts `time` in seconds since the first packet. Of a file that is cut off, the whole packets
    are read. Raises `BadFingerprintFile` or `OSError`.
    """
    packets, is_cut = _read_packets(path.read_bytes())
    counts = [len(packet.csi) for packet in packets]
    if len(set(counts)) > 1:
        odd = next(number for number, count in enumerate(counts) if count != counts[0])
        raise BadFingerprintFile(f"packet {odd} has {counts[odd]} receive antennas, those before it {counts[0]}")
    clock = np.array([packet.microseconds for packet in packets], np.int64)
    half = _CLOCK_MICROSECONDS // 2  # a step back is a packet out of order, unless it is as long as the clock
    elapsed = np.cumsum((np.diff(clock, prepend=clock[0]) + half) % _CLOCK_MICROSECONDS - half) / 1e6
    placed = place_packets(path, elapsed)
    csi = np.stack([packets[row].csi for row in placed.rows.tolist()])
    heard = find_signals(csi)
    if not heard.any():
        raise BadFingerprintFile("no packet with a position has a signal: their CSI is all zero")
    notes = describe_left_out(
        "packets",
        len(packets),
        unplaced=len(packets) - len(placed.rows),
        silent=int((~heard).sum()),
        hint=placed.hint,
    )
    if is_cut:
        notes = (describe_cut(len(packets)), *notes)
    columns = {"csi": csi} | placed.columns
    return Source({name: Variable.of(one[heard]) for name, one in columns.items()}, notes=notes)


def _read_packets(content: bytes) -> tuple[list[_Packet], bool]:
    """The packets that are whole, and whether the file is cut off after them."""
    packets: list[_Packet] = []
    place = records = 0
    while place + _LENGTH.size <= len(content):
        start = place + _LENGTH.size
        end = start + _LENGTH.unpack_from(content, place)[0]
        if end == start:
            raise BadFingerprintFile(
                f"the file is no capture of the CSI Tool after {len(packets)} whole packets, at byte {place}"
            )
        if end > len(content):
            break
        if content[start] == _CSI_CODE:
            packets.append(_read_packet(content[start + 1 : end], len(packets)))
        place = end
        records += 1
    if not records:
        raise BadFingerprintFile("it is no capture of the CSI Tool: it has no whole packet")
    if not packets:
        raise BadFingerprintFile("it has no CSI: no record with code 0xBB")
    return packets, place < len(content)


def _read_packet(record: bytes, number: int) -> _Packet:
    if len(record) < _HEAD.size:
        raise BadFingerprintFile(f"packet {number} is shorter than its head")
    microseconds, _, _, receive, transmit, *_, order, length, _ = _HEAD.unpack_from(record)
    bits = GROUPS * (receive * transmit * 16 + 3)
    expected = (bits + 7) // 8
    if not (1 <= receive <= 3 and 1 <= transmit <= 3) or length != expected or len(record) - _HEAD.size < expected:
        raise BadFingerprintFile(
            f"packet {number} has {len(record) - _HEAD.size} bytes of CSI and says {length}; {receive} receive and "
            f"{transmit} transmit antennas need {expected}"
        )
    payload = np.frombuffer(record, np.uint8, expected, _HEAD.size)
    groups = np.unpackbits(payload, count=bits, bitorder="little").reshape(GROUPS, -1)[:, 3:]
    parts = np.packbits(groups.reshape(GROUPS, receive, transmit, 2, 8), axis=-1, bitorder="little").view(np.int8)
    pairs = parts[:, :, 0, :, 0].astype(np.float32)  # of the first transmit antenna
    csi = np.ascontiguousarray(pairs).view(np.complex64)[..., 0].T  # [receive antennas, GROUPS]
    sockets = [(order >> shift) & 3 for shift in (0, 2, 4)][:receive]
    if receive > 1 and sorted(sockets) == list(range(receive)):  # else the card does not say
        csi = csi[np.argsort(sockets)]
    return _Packet(microseconds, np.ascontiguousarray(csi))
