"""Reads and writes import files: a cell's fingerprints as safetensors or as NumPy's npz.

A file has these arrays of n rows:

- `csi`: complex `[n, antennas, subcarriers]`, or real pairs `[n, antennas, subcarriers, 2]`, optionally with `scale`
  `[n]`, a factor per fingerprint;
- `positions` `[n, 2]`, metres east and north of the base station, or `latitudes_deg` and `longitudes_deg` `[n]`;
- `times` `[n]`, Unix seconds, optional. The default is 0, which means unknown: the time of the file or of the import
  would make old fingerprints look new;
- `sigmas` `[n]`, 1-sigma error of the position labels in metres, optional. The default is 0.05, a surveyed label.

The description of the cell is JSON: the safetensors metadata `cell`, the npz array `cell` (a string), or a separate
file.

Arrays may have any memory order, byte order and width. Integers are real numbers too.
"""

import json
import lzma
import math
import mmap
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import save

from reference_db.cell import Cell, describe_errors
from reference_db.durable_file import write_durably
from reference_db.errors import BadFingerprint, BadFingerprintFile
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import as_complex, unpack_csi
from reference_db.segment import Segment
from reference_db.tensor_buffer import read_tensors
from reference_db.unique_names import refuse_repeated_names

SUFFIXES = {".safetensors", ".npz"}
UNKNOWN_TIME = 0.0
DEFAULT_SIGMA = 0.05

_Arrays = dict[str, NDArray[np.generic]]
_Real = TypeVar("_Real", np.float32, np.float64)

_WGS84 = {"latitudes_deg", "longitudes_deg"}
_WRITTEN = ("csi", "scale", "positions", "times", "sigmas")
_KNOWN = {*_WRITTEN} | _WGS84
_METRES_PER_DEGREE = 111_320.0  # of latitude; of longitude less
_ZIP = b"PK\x03\x04"
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, eq=False)
class FingerprintFile:
    """An import file, not checked yet: its arrays by name, and the cell that it describes, if any."""

    arrays: _Arrays
    cell: Cell | None

    @classmethod
    def read(cls, file: IO[bytes], most_bytes: int | None = None) -> Self:
        """Reads an open file of either format, detected by its first bytes. Arrays may be views of the mapped file.

        Raises `BadFingerprintFile` if the file is malformed, or if it would decompress to more than `most_bytes`.
        """
        file.seek(0)
        magic = file.read(len(_ZIP))
        try:
            arrays, described = _read_npz(file, most_bytes) if magic == _ZIP else _read_safetensors(file)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
            raise BadFingerprintFile(str(error)) from error
        except (OSError, ValueError, EOFError, OverflowError, RuntimeError) as error:
            raise BadFingerprintFile(str(error)) from error
        return cls(arrays, None if described is None else _parse_cell(described))

    def fingerprints(self, cell: Cell) -> Fingerprints:
        """The arrays as fingerprints of `cell`. Call `check_fingerprints` on the result.

        Raises `BadFingerprintFile` for missing or malformed arrays, and `BadFingerprint` for an impossible latitude or
        longitude.
        """
        return _fingerprints(dict(self.arrays), cell)


def read_fingerprint_file(path: Path, cell: Cell | None = None) -> tuple[Cell, Fingerprints]:
    """Reads an import file and checks its fingerprints against `cell`, or against the cell that the file describes.

    Raises `BadFingerprintFile` if the file does not have the format described above, `BadFingerprint` with the first
    unacceptable row, and `TooFewFingerprints` if there is no row.
    """
    if path.suffix not in SUFFIXES:
        raise BadFingerprintFile(f"{path.name}: the suffix must be .safetensors or .npz")
    try:
        with path.open("rb") as opened:
            file = FingerprintFile.read(opened)
        cell = cell or file.cell
        if cell is None:
            raise BadFingerprintFile(
                "the file describes no cell, and no description was given; add the cell as JSON under the name `cell`"
            )
        fingerprints = file.fingerprints(cell)
    except BadFingerprintFile as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error
    except OSError as error:
        raise BadFingerprintFile(f"{path.name}: {error.strerror}") from error
    check_fingerprints(fingerprints, cell)
    return cell, fingerprints


def read_cell_file(path: Path) -> Cell:
    """Reads the description of a cell from a JSON file. Raises `BadFingerprintFile`."""
    try:
        described = path.read_bytes()
    except OSError as error:
        raise BadFingerprintFile(f"{path.name}: {error.strerror}") from error
    try:
        return _parse_cell(described)
    except BadFingerprintFile as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error


def write_fingerprint_file(path: Path, cell: Cell, fingerprints: Fingerprints) -> None:
    """Writes an import file as safetensors, with CSI as float16 and a scale. Equal input gives equal bytes.

    Raises the errors of `check_fingerprints`, and writes nothing then.
    """
    check_fingerprints(fingerprints, cell)
    segment = Segment.of(fingerprints)
    arrays = {name: np.ascontiguousarray(getattr(segment, name)) for name in _WRITTEN}
    write_durably(path, save(arrays, metadata={"cell": cell.model_dump_json()}))


def _parse_cell(described: str | bytes) -> Cell:
    try:
        cell = Cell.model_validate_json(described)
        json.loads(described, object_pairs_hook=refuse_repeated_names)
        return cell
    except ValidationError as error:
        raise BadFingerprintFile(f"the cell description is invalid: {describe_errors(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadFingerprintFile(f"the cell description is invalid: {error}") from error


def _read_safetensors(file: IO[bytes]) -> tuple[_Arrays, str | None]:
    arrays, metadata = read_tensors(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    return arrays, metadata.get("cell")


def _read_npz(file: IO[bytes], most_bytes: int | None) -> tuple[_Arrays, str | None]:
    with zipfile.ZipFile(file) as archive:
        declared = sum(member.file_size for member in archive.infolist())
        if most_bytes is not None and declared > most_bytes:
            raise BadFingerprintFile(f"the file unpacks to {declared} bytes; the limit is {most_bytes}")
        members = [(member.filename.removesuffix(".npy"), member) for member in archive.infolist()]
        refuse_repeated_names(members)
        arrays = {name: _member(archive, name, member) for name, member in members}
    described = arrays.pop("cell", None)
    return arrays, None if described is None else _text(described)


def _text(described: NDArray[np.generic]) -> str:
    """The only string of an array, stored as text or as UTF-8 bytes."""
    if described.size != 1 or described.dtype.kind not in "US":
        raise BadFingerprintFile(f"cell is {described.dtype} {list(described.shape)}, expected one string")
    text = described.reshape(-1)[0]
    return text.decode() if isinstance(text, bytes) else str(text)


def _member(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> NDArray[np.generic]:
    """Reads one array. Checks its size first, because NumPy allocates the size that the header claims."""
    with archive.open(member) as opened:
        header = _NPY_HEADERS.get(np.lib.format.read_magic(opened))
        if header is None:
            raise BadFingerprintFile(f"{member.filename} is not an array in NumPy format 1.0 or 2.0")
        try:
            shape, _, dtype = header(opened)
        except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError) as error:  # of Python's parser
            raise BadFingerprintFile(f"the header of {name} cannot be parsed") from error
        if dtype.hasobject:
            raise BadFingerprintFile(f"{name} holds Python objects, which are never loaded; expected numbers")
        if opened.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise BadFingerprintFile(f"{member.filename} does not have the size that its header states")
    with archive.open(member) as opened:
        array: NDArray[np.generic] = np.lib.format.read_array(opened, allow_pickle=False)
        return array


def _fingerprints(arrays: _Arrays, cell: Cell) -> Fingerprints:
    unknown = sorted(arrays.keys() - _KNOWN)
    if unknown:
        raise BadFingerprintFile(f"unknown arrays: {', '.join(unknown)}; expected only {', '.join(sorted(_KNOWN))}")
    csi = _csi(arrays)
    n = len(csi)
    arrays.setdefault("times", np.full(n, UNKNOWN_TIME))
    arrays.setdefault("sigmas", np.full(n, DEFAULT_SIGMA))
    fingerprints = Fingerprints(
        csi=csi,
        positions=_positions(arrays, n, cell),
        times=_real(arrays, "times", (n,), np.float64),
        sigmas=_real(arrays, "sigmas", (n,), np.float32),
    )
    for name in ("positions", "latitudes_deg", "longitudes_deg"):
        if name in arrays:
            _check_resolution(arrays[name], name, fingerprints.sigmas)
    return fingerprints


def _check_resolution(raw: NDArray[np.generic], name: str, sigmas: NDArray[np.float32]) -> None:
    """Raises `BadFingerprint` if the type of an array rounds a position by more than the error of its label."""
    metres = _METRES_PER_DEGREE if name in _WGS84 else 1.0
    exact = np.float64 if name in _WGS84 else np.float32
    if raw.dtype.kind != "f" or raw.dtype.itemsize >= np.dtype(exact).itemsize:
        return
    steps = np.abs(np.spacing(raw)).max(axis=tuple(range(1, raw.ndim)), initial=0.0).astype(np.float64) * metres
    coarse = steps / 2 > sigmas
    if coarse.any():
        row = int(coarse.argmax())
        reason = f"{raw.dtype.name} rounds {name} to {steps[row]:.2g} m, too coarse for a sigma of {sigmas[row]:.2g} m"
        raise BadFingerprint(row, f"{reason}; save the array as {np.dtype(exact).name}, or state larger sigmas")


def _csi(arrays: _Arrays) -> NDArray[np.complex64]:
    raw = arrays.get("csi")
    if raw is None:
        raise BadFingerprintFile("the array csi is missing")
    if raw.ndim == 3 and np.iscomplexobj(raw):
        if "scale" in arrays:
            raise BadFingerprintFile("scale is only allowed with csi of real pairs")
        with np.errstate(over="ignore"):  # overflow becomes infinity, which the check reports with its row
            return np.ascontiguousarray(raw, dtype=np.complex64)
    if raw.ndim == 4 and raw.shape[-1] == 2 and raw.dtype.kind in "fi":
        n = len(raw)
        scale = _real(arrays, "scale", (n,), np.float32) if "scale" in arrays else np.ones(n, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return as_complex(unpack_csi(np.ascontiguousarray(raw, dtype=np.float32), scale))
    raise BadFingerprintFile(
        f"csi is {raw.dtype} {list(raw.shape)}, expected complex [n, antennas, subcarriers] "
        "or real [n, antennas, subcarriers, 2]"
    )


def _positions(arrays: _Arrays, n: int, cell: Cell) -> NDArray[np.float32]:
    wgs84 = _WGS84 & arrays.keys()
    if "positions" in arrays and not wgs84:
        return _real(arrays, "positions", (n, 2), np.float32)
    if "positions" in arrays or wgs84 != _WGS84:
        raise BadFingerprintFile("the file needs either positions or both latitudes_deg and longitudes_deg")
    latitudes = _real(arrays, "latitudes_deg", (n,), np.float64)
    longitudes = _real(arrays, "longitudes_deg", (n,), np.float64)
    outside = ~((np.abs(latitudes) <= 90) & (np.abs(longitudes) <= 180))
    if outside.any():
        raise BadFingerprint(int(outside.argmax()), "latitude must be within 90 and longitude within 180 degrees")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    return np.stack(frame.to_local(latitudes, longitudes), axis=1).astype(np.float32)


def _real(arrays: _Arrays, name: str, shape: tuple[int, ...], dtype: type[_Real]) -> NDArray[_Real]:
    raw = arrays[name]
    if raw.shape != shape or raw.dtype.kind not in "fiu":
        raise BadFingerprintFile(f"{name} is {raw.dtype} {list(raw.shape)}, expected real numbers {list(shape)}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(raw, dtype=dtype)
