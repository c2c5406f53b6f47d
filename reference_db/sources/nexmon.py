"""Captures of Nexmon CSI (github.com/seemoo-lab/nexmon_csi): `.pcap` files of UDP packets to port 5500.

Each UDP packet has the CSI of one receive core and one spatial stream of a Wi-Fi frame. After the UDP head come the
magic bytes 11 11, RSSI and frame control (or 11 11 again in older versions), the sender's address (6 bytes), then the
sequence number of the frame, core (3 bits) and spatial stream (3 bits), channel and chip (2 bytes each, little-endian),
and one word of 4 bytes for each of the 64, 128 or 256 subcarriers, in the order of an FFT. The chips bcm4339 and
bcm43455c0 write int16 pairs, bcm4358 and bcm4366c0 two mantissas with a common exponent.

The cores that the capture has are the antennas, in the order of their numbers; of the spatial streams, the first is
taken. Frames that lack a core are left out. Guard subcarriers hold arbitrary values and are left out, too: those kept
are -26 to 26 of 64, -58 to 58 of 128 and -122 to 122 of 256. The null subcarriers at the carrier get the values on the
line between their neighbours.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.left_out import describe_cut, describe_left_out, find_signals
from reference_db.sources.packet_positions import place_packets
from reference_db.sources.source import Source, Variable

_MAGICS = {b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6)}
_MAGICS |= {b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9)}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_FILE_HEAD, _PACKET_HEAD = 24, 16
_MOST_BYTES = 1 << 18  # of a packet, in every program that captures
_ETHERNET = 1
_PORT = 5500
_UDP = 14 + 20  # after the heads of Ethernet and of IP without options
_HEADS = _UDP + 8
_CSI_HEAD = struct.Struct("<2s2s6sHHHH")
_MAGIC = b"\x11\x11"
_MOST_CORE_AND_STREAM = 0x3F  # some devices write that field big-endian
# The last subcarrier that carries data, and the last null one beside the carrier, of each FFT length.
_USED = {64: (26, 0), 128: (58, 1), 256: (122, 1)}
_INTEGERS = {0x0001: "bcm4339", 0x0065: "bcm43455c0"}
_FLOATS = {0x0003: "bcm4358", 0xDEAD: "bcm4358", 0x006A: "bcm4366c0", 0xE834: "bcm4366c0"}
_MANTISSA_AND_EXPONENT = {"bcm4358": (9, 5), "bcm4366c0": (12, 6)}  # bits


class _Packet(NamedTuple):
    time: float
    content: memoryview


class _Piece(NamedTuple):
    """The CSI of one core and stream of one Wi-Fi frame."""

    time: float
    frame: tuple[bytes, int]  # sender and sequence number
    core: int
    stream: int
    csi: NDArray[np.complex64]  # [subcarriers of the FFT], in its order


def open_nexmon(path: Path) -> Source:
    """`csi` complex64 `[n, cores, subcarriers]` of the frames that have a position and a signal, and these positions.

    `times` are those of the frames. The table of positions numbers Wi-Fi frames, and counts `time` in Unix seconds. Of
    a file that is cut off, the whole packets are read. Raises `BadFingerprintFile` or `OSError`.
    """
    packets, is_cut = _find_packets(path.read_bytes())
    frames = _group(piece for piece in _read_pieces(packets) if piece.stream == 0)
    if not frames:
        raise BadFingerprintFile(f"it has no CSI: no UDP packet to port {_PORT} that begins with 11 11")
    cores = sorted({core for frame in frames for core in frame})
    times = np.array([next(iter(frame.values())).time for frame in frames])
    placed = place_packets(path, times)
    whole = np.array([frames[row].keys() == set(cores) for row in placed.rows.tolist()], bool)
    if not whole.any():
        raise BadFingerprintFile(f"no frame with a position has all cores {', '.join(map(str, cores))}")
    csi = np.stack([np.stack([frames[row][core].csi for core in cores]) for row in placed.rows[whole].tolist()])
    csi = _keep_used(csi)
    heard = find_signals(csi)
    if not heard.any():
        raise BadFingerprintFile("no frame with a position and all cores has a signal: their CSI is all zero")
    notes = describe_left_out(
        "frames",
        len(frames),
        unplaced=len(frames) - len(placed.rows),
        incomplete=int((~whole).sum()),
        silent=int((~heard).sum()),
        hint=placed.hint,
    )
    if is_cut:
        notes = (describe_cut(len(packets)), *notes)
    kept = np.flatnonzero(whole)[heard]
    columns = {"times": times[placed.rows]} | placed.columns
    variables = {"csi": csi[heard]} | {name: one[kept] for name, one in columns.items()}
    return Source({name: Variable.of(one) for name, one in variables.items()}, notes=notes)


def _group(pieces: Iterator[_Piece]) -> list[dict[int, _Piece]]:
    """The pieces of each Wi-Fi frame by core. A frame that is sent again is another one."""
    frames: list[dict[int, _Piece]] = []
    length, last = 0, None
    for piece in pieces:
        length = length or len(piece.csi)
        if len(piece.csi) != length:
            raise BadFingerprintFile(
                f"frame {len(frames)} has {len(piece.csi)} subcarriers, those before it {length}; keep one bandwidth"
            )
        if piece.frame != last or piece.core in frames[-1]:
            frames.append({})
        frames[-1][piece.core] = piece
        last = piece.frame
    return frames


def _find_packets(content: bytes) -> tuple[list[_Packet], bool]:
    """The packets that are whole, and whether the file is cut off after them."""
    if content.startswith(_PCAPNG):
        raise BadFingerprintFile("it is a pcapng file; save it as pcap (editcap -F pcap)")
    if content[:4] not in _MAGICS or len(content) < _FILE_HEAD:
        raise BadFingerprintFile("it is not a pcap file")
    order, fraction = _MAGICS[content[:4]]
    link = struct.unpack_from(f"{order}I", content, 20)[0] & 0xFFFF
    if link != _ETHERNET:
        raise BadFingerprintFile(f"its link type is {link}, expected Ethernet (1): capture with tcpdump -i wlan0")
    packets: list[_Packet] = []
    view, place = memoryview(content), _FILE_HEAD
    while place + _PACKET_HEAD <= len(content):
        seconds, parts, length, _ = struct.unpack_from(f"{order}IIII", content, place)
        if length > _MOST_BYTES and packets:
            raise BadFingerprintFile(
                f"the file is damaged after {len(packets)} whole packets, at byte {place}: a packet of {length} bytes"
            )
        start = place + _PACKET_HEAD
        if start + length > len(content):
            break
        place = start + length
        packets.append(_Packet(seconds + parts * fraction, view[start:place]))
    if not packets:
        raise BadFingerprintFile("it is no capture of Nexmon CSI: it has no whole packet")
    return packets, place < len(content)


def _read_pieces(packets: Iterable[_Packet]) -> Iterator[_Piece]:
    for number, packet in enumerate(packets):
        if piece := _read_piece(bytes(packet.content), packet.time, number):
            yield piece


def _read_piece(packet: bytes, time: float, number: int) -> _Piece | None:
    """None for a packet that has no CSI."""
    if packet[12:14] != b"\x08\x00" or packet[14:15] != b"\x45" or int.from_bytes(packet[36:38]) != _PORT:
        return None
    payload = packet[_HEADS : _UDP + int.from_bytes(packet[38:40])]  # padding may follow
    if len(payload) < _CSI_HEAD.size or payload[:2] != _MAGIC:
        return None
    _, _, sender, sequence, place, _, chip = _CSI_HEAD.unpack_from(payload)
    words = np.frombuffer(payload[_CSI_HEAD.size :][: (len(payload) - _CSI_HEAD.size) // 4 * 4], "<u4")
    if len(words) not in _USED:
        raise BadFingerprintFile(f"packet {number} has {len(words)} subcarriers, expected 64, 128 or 256")
    if place > _MOST_CORE_AND_STREAM:
        place = int.from_bytes(place.to_bytes(2, "little"))
    return _Piece(time, (sender, sequence), place & 7, place >> 3 & 7, _unpack(words, chip, number))


def _unpack(words: NDArray[np.uint32], chip: int, number: int) -> NDArray[np.complex64]:
    if chip in _INTEGERS:
        return np.ascontiguousarray(words.view("<i2").astype(np.float32)).view(np.complex64)
    if chip not in _FLOATS:
        read = ", ".join(f"{one:#06x} ({name})" for one, name in (_INTEGERS | _FLOATS).items())
        raise BadFingerprintFile(f"packet {number} is of the chip {chip:#06x}; read are {read}")
    mantissa, exponent = _MANTISSA_AND_EXPONENT[_FLOATS[chip]]  # the first bit of a mantissa is its sign
    scale = (words & ((1 << exponent) - 1)).astype(np.int32)
    scale -= (scale >= 1 << (exponent - 1)).astype(np.int32) << exponent
    csi = np.empty(len(words), np.complex64)
    csi.real = _read_mantissas(words, exponent + mantissa, mantissa, scale)
    csi.imag = _read_mantissas(words, exponent, mantissa, scale)
    return csi


def _read_mantissas(words: NDArray[np.uint32], shift: int, bits: int, scale: NDArray[np.int32]) -> NDArray[np.float32]:
    magnitudes = np.ldexp((words >> shift & ((1 << (bits - 1)) - 1)).astype(np.float32), scale)
    negative = (words >> (shift + bits - 1) & 1).astype(np.bool_)
    return np.where(negative, -magnitudes, magnitudes).astype(np.float32)


def _keep_used(csi: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """CSI `[n, cores, subcarriers]` in the order of an FFT, as its used subcarriers by ascending frequency."""
    last, null = _USED[csi.shape[2]]
    middle = csi.shape[2] // 2
    used = np.fft.fftshift(csi, axes=2)[..., middle - last : middle + last + 1].copy()
    low, high = used[..., last - null - 1], used[..., last + null + 1]
    for step in range(1, 2 * null + 2):
        used[..., last - null - 1 + step] = low + (high - low) * np.float32(step / (2 * null + 2))
    return used
