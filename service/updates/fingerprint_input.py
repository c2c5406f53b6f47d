"""Uploaded fingerprints: rows of JSON or msgpack, or a fingerprint file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from fingerpost.wire_cells import NEGATIVE_HEIGHT, CellInput
from fingerpost.wire_fingerprints import FingerprintInput
from reference_db.cell import Cell
from reference_db.errors import BadCellDescription
from reference_db.fingerprint_arrays import UNKNOWN_TIME
from reference_db.fingerprint_file import FingerprintFile
from reference_db.fingerprints import Fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import as_complex
from service.errors import (
    BodyTooLarge,
    CsiAllZero,
    CsiLengthMismatch,
    CsiNotBase64,
    CsiNotFinite,
    CsiOutOfRange,
    CsiShapeMismatch,
    FieldError,
    FieldIncorrect,
    FieldMissing,
    FingerprintRefused,
    FingerprintsUnreadable,
    MalformedBody,
    SurveyImplausible,
    UnknownField,
    shorten_name,
)
from service.updates.cell_wire import read_cell_input
from service.updates.uploads import Upload
from service.web.csi import check_shape, decode_csi
from service.web.media import JSON, Format, format_of, media_type_of
from service.web.place import to_local

T = TypeVar("T")

FILE = "application/octet-stream"
FILE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "format": "binary",
    "description": "A fingerprint file, safetensors or npz: `csi` complex `[n, antennas, subcarriers]`, or real pairs "
    "`[..., 2]` with `scale`; `positions` `[n, 2]` metres, or `latitudes_deg` and `longitudes_deg`; optionally `times` "
    "(Unix seconds) and `sigmas` (metres), or the same under other usual names; and the cell's description as JSON, in "
    "the metadata or the array `cell`.",
}
FILE_BODY: dict[str, Any] = {"requestBody": {"content": {FILE: {"schema": FILE_SCHEMA}}}}
FILE_ERRORS = (
    CsiNotBase64,
    CsiLengthMismatch,
    CsiShapeMismatch,
    CsiNotFinite,
    CsiAllZero,
    CsiOutOfRange,
    FingerprintRefused,
    FingerprintsUnreadable,
    SurveyImplausible,
)
_MOST_BYTES = 256 * 2**20  # of JSON and msgpack, which are read into memory; files are not
_PART_VALUES = 256  # the description of a cell, or one row, holds fewer


class FingerprintsInput(Protocol):
    """Uploaded fingerprints, and the description of their cell if the body has one."""

    @property
    def cell(self) -> Cell | None: ...

    def fingerprints(self, cell: Cell) -> Fingerprints | None:
        """The fingerprints in the frame of `cell`, their values unchecked. None if the body has a description only."""


class FingerprintRows(NamedTuple):
    """Rows of JSON or msgpack, and their decoded `csi`: float32 `[antennas, subcarriers, 2]` a row."""

    cell: Cell | None
    rows: list[FingerprintInput]
    csi: list[NDArray[np.float32]]

    def fingerprints(self, cell: Cell) -> Fingerprints | None:
        """Raises `CsiShapeMismatch` or `FieldIncorrect` about a row."""
        if not self.rows:
            return None
        for row, csi in enumerate(self.csi):
            check_shape(csi, cell, f"/fingerprints/{row}/csi/shape")
        frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
        return Fingerprints(
            csi=as_complex(np.stack(self.csi)),
            positions=np.array([_position(one, frame, row) for row, one in enumerate(self.rows)], np.float32),
            times=np.array([UNKNOWN_TIME if one.time is None else one.time.timestamp() for one in self.rows]),
            sigmas=np.array([one.sigma for one in self.rows], np.float32),
        )


def read_media_type(request: Request) -> str:
    """The media type of an upload. Raises `UnsupportedMediaType`."""
    media_type = media_type_of(request)
    if media_type != FILE:
        format_of(media_type, [FILE])
    return media_type


def read_cell(upload: Upload, media_type: str, cell_id: str, limit: int) -> FingerprintsInput:
    """The body of a cell to create or to replace. A file may unpack to at most `limit` bytes. Blocking.

    Raises what is wrong with the body, or `BadFingerprintFile`.
    """
    if media_type == FILE:
        file = _read_file(upload, cell_id, limit)
        if file.cell is not None and file.cell.height < 0:
            raise BadCellDescription([f"height: {NEGATIVE_HEIGHT}"])
        return file
    reads = format_of(media_type, [FILE])
    fields = _split_fields(_read_whole(upload), reads, {"cell", "fingerprints"})
    if not fields:
        raise FieldMissing("/cell", "required where there are no fingerprints")
    cell = None
    if "cell" in fields:
        with _located_at("/cell"):
            described = reads.read(bytes(fields["cell"]), CellInput, _PART_VALUES)
        cell = read_cell_input(described, cell_id)
    rows = _split_rows(fields["fingerprints"], reads) if "fingerprints" in fields else []
    return _read_rows(rows, reads, cell)


def read_fingerprints(upload: Upload, media_type: str, cell_id: str, limit: int) -> FingerprintsInput:
    """The body of fingerprints to append, read as `read_cell` reads it."""
    if media_type == FILE:
        return _read_file(upload, cell_id, limit)
    reads = format_of(media_type, [FILE])
    fields = _split_fields(_read_whole(upload), reads, {"fingerprints"})
    if "fingerprints" not in fields:
        raise FieldMissing("/fingerprints", "required field is missing")
    return _read_rows(_split_rows(fields["fingerprints"], reads), reads, None)


def _read_file(upload: Upload, cell_id: str, limit: int) -> FingerprintFile:
    file = FingerprintFile.read(upload.file, limit)
    if file.cell is not None and file.cell.cell_id != cell_id:
        raise FingerprintsUnreadable(
            f"the file describes cell {shorten_name(file.cell.cell_id)!r}, not {shorten_name(cell_id)!r}"
        )
    return file


def _read_whole(upload: Upload) -> bytes:
    if upload.file.seek(0, SEEK_END) > _MOST_BYTES:
        raise BodyTooLarge(f"the limit is {_MOST_BYTES} bytes, except for fingerprint files")
    upload.file.seek(0)
    return upload.file.read()


# A parse of 256 MiB holds the interpreter's lock for seconds, while users wait. msgspec finds the ends of the rows
# without building objects, and each row is parsed alone: other threads run between two rows. pydantic cannot do this.
_RawRows = list[msgspec.Raw]
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


class _RawBody(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a body, each still encoded, empty where absent. A dict would hold millions of unknown fields."""

    cell: msgspec.Raw = msgspec.Raw()
    fingerprints: msgspec.Raw = msgspec.Raw()


def _split_fields(body: bytes, reads: Format, known: set[str]) -> dict[str, msgspec.Raw]:
    """The fields of a body that are present and not null, each still encoded."""
    raw = _split(body, reads, _RawBody, FieldIncorrect("", "Input should be an object"))
    fields = {
        name: value
        for name, value in (("cell", raw.cell), ("fingerprints", raw.fingerprints))
        if len(memoryview(value))
    }
    if unknown := next((name for name in fields if name not in known), None):
        raise UnknownField(f"/{unknown}", "unknown field")
    if repeated := _find_repeated_field(body, fields, reads):
        raise FieldIncorrect(f"/{repeated}", "comes twice")
    null = b"null" if reads is JSON else b"\xc0"
    return {name: value for name, value in fields.items() if memoryview(value) != null}


def _find_repeated_field(body: bytes, fields: dict[str, msgspec.Raw], reads: Format) -> str | None:
    """The first field of a body that comes twice. `fields` are views of the body; of two it is the later."""
    start = np.frombuffer(body, np.uint8).ctypes.data
    spans = sorted(
        (np.frombuffer(value, np.uint8).ctypes.data - start, len(memoryview(value))) for value in fields.values()
    )
    rest, end = b"", 0  # the names of the fields and what separates them, and earlier values of the same names
    for first, length in spans:
        rest += body[end:first]
        end = first + length
    for name in fields:
        named = rf'"{name}"\s*:' if reads is JSON else name
        if len(re.findall(named.encode(), rest)) > 1:
            return name
    return None


def _split_rows(field: msgspec.Raw, reads: Format) -> _RawRows:
    wrong = FieldIncorrect("/fingerprints", "Input should be an array of at least one item")
    rows = _split(field, reads, _RawRows, wrong)
    if not rows:
        raise wrong
    return rows


def _split(body: bytes | msgspec.Raw, reads: Format, kind: type[T], wrong: FieldIncorrect) -> T:
    """Raises `wrong` for a body of another kind, or `MalformedBody`."""
    decode = msgspec.json.decode if reads is JSON else msgspec.msgpack.decode
    try:
        return decode(body, type=kind)
    except msgspec.ValidationError as error:
        if found := _UNKNOWN_FIELD.match(str(error)):
            raise UnknownField(f"/{found[1]}", "unknown field") from error
        raise wrong from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, msgspec.DecodeError) else ""
        raise MalformedBody(f"not {reads.media_type}{reason}") from error


def _read_rows(rows: _RawRows, reads: Format, cell: Cell | None) -> FingerprintRows:
    inputs, csi = [], []
    for row, raw in enumerate(rows):
        with _located_at(f"/fingerprints/{row}"):
            inputs.append(reads.read(bytes(raw), FingerprintInput, _PART_VALUES))
            csi.append(decode_csi(inputs[-1].csi))
    return FingerprintRows(cell, inputs, csi)


@contextmanager
def _located_at(pointer: str) -> Iterator[None]:
    """Adds the place of a part of the body to the errors about it."""
    try:
        yield
    except FieldError as error:
        raise error.under(pointer) from error
    except MalformedBody as error:
        raise MalformedBody(f"{pointer}: {error.detail}") from error


def _position(row: FingerprintInput, frame: LocalFrame, number: int) -> tuple[float, float]:
    position = to_local(row, frame)
    if position is None:
        raise FieldIncorrect(f"/fingerprints/{number}", "must have either lat and lon, or x and y")
    return position
