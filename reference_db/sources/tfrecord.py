"""TFRecord files of `tf.train.Example`, read without TensorFlow: the framing, and the few protocol buffers inside.

A record is its length (8 bytes), the CRC of the length (4), the data, and the CRC of the data (4), little-endian. The
CRC of each length is checked, so that a file that is cut off or that is something else is recognised. The CRC of the
data is not: computed in Python, it takes longer than all the rest. Data must parse as an `Example` all the same, and
each tensor must have the number of bytes that its shape asks for.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile

_HEAD = struct.Struct("<QI")
_CRC_BYTES = 4
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reversed
_MASK = 0xA282EAD8
_MOST_BYTES = 1 << 31  # of a protocol buffer
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # of TensorFlow

Feature = bytes | NDArray[np.float32] | NDArray[np.int64]


class Record(NamedTuple):
    """Where the data of a record are in its file."""

    start: int
    length: int


def find_records(path: Path) -> list[Record]:
    """The records of a file. Reads their heads only. Raises `BadFingerprintFile` or `OSError`."""
    records: list[Record] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        place = 0
        while place < size:
            head = file.read(_HEAD.size)
            whole = f"after {len(records)} whole records, at byte {place}"
            if len(head) < _HEAD.size:
                raise BadFingerprintFile(f"the file is cut off {whole}")
            length, crc = _HEAD.unpack(head)
            if _masked_crc(head[:8]) != crc or length > _MOST_BYTES:
                raise BadFingerprintFile(f"it is not a TFRecord file, or damaged: a wrong checksum {whole}")
            following = place + _HEAD.size + length + _CRC_BYTES
            if following > size:
                raise BadFingerprintFile(f"the file is cut off {whole}")
            records.append(Record(place + _HEAD.size, length))
            place = file.seek(following)
    return records


def read_examples(path: Path, records: list[Record]) -> Iterator[dict[str, Feature]]:
    """The features of each record, one record in memory at a time. Raises `BadFingerprintFile` or `OSError`."""
    with path.open("rb") as file:
        for number, record in enumerate(records):
            file.seek(record.start)
            try:
                yield _parse_example(memoryview(file.read(record.length)))
            except (ValueError, IndexError, struct.error) as error:
                raise BadFingerprintFile(f"record {number} is not a tf.train.Example: {error}") from error


def parse_tensor(serialised: bytes) -> NDArray[np.generic]:
    """The array of a `TensorProto`, as `tf.io.serialize_tensor` writes it. Raises `ValueError`."""
    dtype, content, values = 0, b"", b""
    shape: tuple[int, ...] = ()
    for number, wire, value in _fields(memoryview(serialised)):
        if number == 1 and isinstance(value, int):
            dtype = value
        elif number == 2 and not isinstance(value, int):
            shape = _parse_shape(value)
        elif number == 4 and not isinstance(value, int):
            content = bytes(value)
        elif number in (5, 6) and wire == _BYTES and not isinstance(value, int):  # float_val, double_val
            values = bytes(value)
    if dtype not in _DTYPES:
        raise ValueError(f"a tensor of TensorFlow's type {dtype}, expected float32 or float64")
    array = np.frombuffer(content or values, _DTYPES[dtype])
    if array.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"a tensor of {array.size} numbers, but of shape {list(shape)}")
    return array.reshape(shape)


def _parse_shape(message: memoryview) -> tuple[int, ...]:
    lengths = []
    for number, _, dimension in _fields(message):
        if number == 2 and not isinstance(dimension, int):
            sizes = [size for field, _, size in _fields(dimension) if field == 1 and isinstance(size, int)]
            lengths.append(sizes[0] if sizes else 0)
    return tuple(lengths)


def _parse_example(message: memoryview) -> dict[str, Feature]:
    """Example { Features { map of name to Feature } }."""
    found: dict[str, Feature] = {}
    for number, _, features in _fields(message):
        if number != 1 or isinstance(features, int):
            continue
        for _, _, entry in _fields(features):
            if isinstance(entry, int):
                raise ValueError("no map of features")
            parts = {field: value for field, _, value in _fields(entry)}
            name, feature = parts.get(1), parts.get(2)
            if isinstance(name, memoryview) and isinstance(feature, memoryview):
                found[bytes(name).decode()] = _parse_feature(feature)
    if not found:
        raise ValueError("no features")
    return found


def _parse_feature(message: memoryview) -> Feature:
    """The first string of a list of bytes, or all numbers of another list."""
    for kind, _, values in _fields(message):
        if isinstance(values, int):
            continue
        if kind == 1:
            return next((bytes(value) for _, _, value in _fields(values) if not isinstance(value, int)), b"")
        if kind == 2:
            floats = [bytes(value) for _, _, value in _fields(values) if not isinstance(value, int)]
            return np.frombuffer(b"".join(floats), "<f4")
        if kind == 3:
            return _parse_integers(values)
    return b""


def _parse_integers(message: memoryview) -> NDArray[np.int64]:
    numbers: list[int] = []
    for _, _, value in _fields(message):
        if isinstance(value, int):
            numbers.append(value)
            continue
        place = 0
        while place < len(value):
            number, place = _read_varint(value, place)
            numbers.append(number)
    return np.array(numbers, np.uint64).view(np.int64)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of each field of a protocol buffer. Raises `ValueError` or `IndexError`."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _read_varint(message, place)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, place = _read_varint(message, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"an unknown wire type {wire}")
        if place + length > len(message):
            raise ValueError("a field is longer than its message")
        yield number, wire, message[place : place + length]
        place += length


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
    raise ValueError("a number has more than 64 bits")


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFF_FFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFF_FFFF
