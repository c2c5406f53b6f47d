"""Fingerprints from the wire: the fields of JSON or msgpack, or an import file as it is."""

from collections.abc import Sequence
from datetime import datetime
from io import SEEK_END
from typing import Annotated, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.fingerprint_file import DEFAULT_SIGMA, UNKNOWN_TIME, FingerprintFile
from reference_db.fingerprints import Fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import as_complex
from service.errors import (
    BodyTooLarge,
    CsiShapeMismatch,
    FieldError,
    FieldIncorrect,
    FieldMissing,
    FingerprintsUnreadable,
)
from service.updates.cell_input import CellInput, cell_from
from service.updates.legacy_media import Format, format_of
from service.updates.legacy_wire import Csi, Latitude, Longitude, WireStruct
from service.updates.upload import Upload
from service.web.csi import decode_csi

FILE = "application/octet-stream"
_MOST_FIELDS = 256 * 2**20  # bytes: they are read in memory, where files are not


class _Struct(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class FingerprintInput(_Struct, frozen=True, kw_only=True):
    """CSI and where it was measured: lat and lon, or x and y."""

    csi: Csi
    lat: Latitude | UnsetType = UNSET
    lon: Longitude | UnsetType = UNSET
    x: Annotated[float, Meta(description="Metres east of the base station.")] | UnsetType = UNSET
    y: Annotated[float, Meta(description="Metres north of the base station.")] | UnsetType = UNSET
    time: Annotated[datetime, Meta(tz=True, description="When; unknown where absent.")] | UnsetType = UNSET
    sigma: Annotated[float, Meta(gt=0, le=100, description="1-sigma error of the position, metres.")] = DEFAULT_SIGMA


class CellBody(_Struct, frozen=True, kw_only=True):
    """A cell that is there keeps its description where `cell` is absent; a new one may begin without fingerprints."""

    cell: CellInput | UnsetType = UNSET
    fingerprints: Annotated[list[FingerprintInput], Meta(min_length=1)] | UnsetType = UNSET


class FingerprintsBody(_Struct, frozen=True, kw_only=True):
    fingerprints: Annotated[list[FingerprintInput], Meta(min_length=1)]


class _RawCellBody(_Struct, frozen=True, kw_only=True):
    """Rows are read one by one: whoever waits for the interpreter meanwhile gets it between them."""

    cell: CellInput | UnsetType = UNSET
    fingerprints: Annotated[list[msgspec.Raw], Meta(min_length=1)] | UnsetType = UNSET


class _RawFingerprintsBody(_Struct, frozen=True, kw_only=True):
    fingerprints: Annotated[list[msgspec.Raw], Meta(min_length=1)]


class Sent(Protocol):
    """Fingerprints whose places only their cell tells, and the cell that they came with a description of."""

    @property
    def cell(self) -> Cell | None: ...

    def fingerprints(self, cell: Cell) -> Fingerprints | None:
        """None: a description came alone. What they are worth is not checked."""


class FingerprintRows(NamedTuple):
    """A `Sent` of fields; `csi` float32 `[antennas, subcarriers, 2]` a row."""

    cell: Cell | None
    rows: list[FingerprintInput]
    csi: list[NDArray[np.float32]]

    def fingerprints(self, cell: Cell) -> Fingerprints | None:
        """Raises `CsiShapeMismatch` or `FieldIncorrect` about a row."""
        if not self.rows:
            return None
        shape = (cell.antennas, cell.subcarriers)
        for row, csi in enumerate(self.csi):
            if csi.shape[:2] != shape:
                found = list(csi.shape[:2])
                raise CsiShapeMismatch(f"/fingerprints/{row}/csi/shape", f"{found}, the cell's is {list(shape)}")
        frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
        return Fingerprints(
            csi=as_complex(np.stack(self.csi)),
            positions=np.array([_place(one, frame, row) for row, one in enumerate(self.rows)], np.float32),
            times=np.array([UNKNOWN_TIME if one.time is UNSET else one.time.timestamp() for one in self.rows]),
            sigmas=np.array([one.sigma for one in self.rows], np.float32),
        )


def read_cell(upload: Upload, media_type: str, cell_id: str, limit: int) -> Sent:
    """The body of a cell to be created or replaced; unpacked it takes `limit` bytes at most. Blocks.

    Raises what is wrong with the body, or `BadFingerprintFile`.
    """
    if media_type == FILE:
        return _read_file(upload, cell_id, limit)
    reads = format_of(media_type, [FILE])
    body = reads.read(_whole(upload), _RawCellBody)
    if body.cell is UNSET and body.fingerprints is UNSET:
        raise FieldMissing("/cell", "required where there are no fingerprints")
    cell = None if body.cell is UNSET else cell_from(body.cell, cell_id)
    return _read_rows([] if body.fingerprints is UNSET else body.fingerprints, reads, cell)


def read_fingerprints(upload: Upload, media_type: str, cell_id: str, limit: int) -> Sent:
    """The body of fingerprints to be appended, as `read_cell`."""
    if media_type == FILE:
        return _read_file(upload, cell_id, limit)
    reads = format_of(media_type, [FILE])
    return _read_rows(reads.read(_whole(upload), _RawFingerprintsBody).fingerprints, reads, None)


def _read_file(upload: Upload, cell_id: str, limit: int) -> FingerprintFile:
    file = FingerprintFile.read(upload.file, limit)
    if file.cell is not None and file.cell.cell_id != cell_id:
        raise FingerprintsUnreadable(f"the file describes cell {file.cell.cell_id!r}, not {cell_id!r}")
    return file


def _whole(upload: Upload) -> bytes:
    if upload.file.seek(0, SEEK_END) > _MOST_FIELDS:
        raise BodyTooLarge(f"the limit is {_MOST_FIELDS} bytes, but for files")
    upload.file.seek(0)
    return upload.file.read()


def _read_rows(rows: Sequence[msgspec.Raw], reads: Format, cell: Cell | None) -> FingerprintRows:
    sent, csi = [], []
    for row, raw in enumerate(rows):
        try:
            sent.append(reads.read(raw, FingerprintInput))
            csi.append(decode_csi(sent[-1].csi))  # type: ignore[arg-type]
        except FieldError as error:
            ((param, reason),) = error.invalid_params
            raise type(error)(f"/fingerprints/{row}{param}", reason) from error
    return FingerprintRows(cell, sent, csi)


def _place(sent: FingerprintInput, frame: LocalFrame, row: int) -> tuple[float, float]:
    match sent:
        case FingerprintInput(lat=float(lat), lon=float(lon), x=UnsetType(), y=UnsetType()):
            return frame.to_local(lat, lon)
        case FingerprintInput(lat=UnsetType(), lon=UnsetType(), x=float(x), y=float(y)):
            return x, y
        case _:
            raise FieldIncorrect(f"/fingerprints/{row}", "must have either lat and lon, or x and y")
