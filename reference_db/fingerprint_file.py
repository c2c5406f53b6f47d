"""The file that brings a cell's fingerprints from outside: safetensors or NumPy's npz.

Arrays, n rows each:

- `csi`: complex `[n, antennas, subcarriers]`, or real pairs `[n, antennas, subcarriers, 2]`, which may come
  with `scale` `[n]`, a factor a fingerprint;
- `positions` `[n, 2]`, metres east and north of the base station, or `latitudes_deg`
  and `longitudes_deg` `[n]`;
- `times` `[n]`, Unix seconds; where absent 0, the mark of an unknown time: guessing one (the file's, the
  import's) would make old fingerprints look fresh;
- `sigmas` `[n]`, the 1-sigma error of the position labels in metres; where absent 0.05, a surveyed label.

The cell's description is JSON: safetensors metadata `cell`, npz array `cell` (a string), or given apart.
"""

import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reference_db.cell import Cell
from reference_db.durable_file import write_durably
from reference_db.errors import BadFingerprint, BadFingerprintFile
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import as_complex, unpack_csi
from reference_db.segment import Segment

UNKNOWN_TIME = 0.0
DEFAULT_SIGMA = 0.05

_Arrays = dict[str, NDArray[np.generic]]
_Real = TypeVar("_Real", np.float32, np.float64)

_WGS84 = {"latitudes_deg", "longitudes_deg"}
_WRITTEN = ("csi", "scale", "positions", "times", "sigmas")
_KNOWN = {*_WRITTEN} | _WGS84


def read_fingerprint_file(path: Path, cell: Cell | None = None) -> tuple[Cell, Fingerprints]:
    """Reads an import file, its fingerprints checked against `cell` or else the cell it describes.

    Raises `BadFingerprintFile` when the file cannot be read as described above, `BadFingerprint` naming the
    first row that cannot be accepted, `TooFewFingerprints` when there is no row.
    """
    arrays, described = _read(path)
    if cell is None:
        if described is None:
            raise BadFingerprintFile(f"{path.name} describes no cell, and none was given")
        cell = _parse_cell(described, path.name)
    try:
        fingerprints = _fingerprints(arrays, cell)
    except BadFingerprintFile as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error
    check_fingerprints(fingerprints, cell)
    return cell, fingerprints


def read_cell_file(path: Path) -> Cell:
    """Reads a cell's description from a JSON file; raises `BadFingerprintFile`."""
    try:
        described = path.read_bytes()
    except OSError as error:
        raise BadFingerprintFile(f"{path.name}: {error.strerror}") from error
    return _parse_cell(described, path.name)


def write_fingerprint_file(path: Path, cell: Cell, fingerprints: Fingerprints) -> None:
    """Writes an import file as safetensors, CSI as float16 with its scale; equal input gives equal bytes.

    Raises what `check_fingerprints` raises; then nothing is written.
    """
    check_fingerprints(fingerprints, cell)
    segment = Segment.of(fingerprints)
    arrays = {name: np.ascontiguousarray(getattr(segment, name)) for name in _WRITTEN}
    write_durably(path, save(arrays, metadata={"cell": cell.model_dump_json()}))


def _parse_cell(described: str | bytes, name: str) -> Cell:
    try:
        return Cell.model_validate_json(described)
    except ValidationError as error:
        raise BadFingerprintFile(f"{name}: bad cell description: {error}") from error


def _read(path: Path) -> tuple[_Arrays, str | None]:
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
    reader = readers.get(path.suffix)
    if reader is None:
        raise BadFingerprintFile(f"{path.name}: neither .safetensors nor .npz")
    try:
        return reader(path)
    except (OSError, ValueError, EOFError, NotImplementedError) as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error
    except (SafetensorError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error


def _read_safetensors(path: Path) -> tuple[_Arrays, str | None]:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not iterable itself
        return arrays, (file.metadata() or {}).get("cell")


def _read_npz(path: Path) -> tuple[_Arrays, str | None]:
    with path.open("rb") as opened, np.lib.npyio.NpzFile(opened, allow_pickle=False) as file:
        arrays = dict(file)
    described = arrays.pop("cell", None)
    return arrays, None if described is None else str(described)


def _fingerprints(arrays: _Arrays, cell: Cell) -> Fingerprints:
    unknown = sorted(arrays.keys() - _KNOWN)
    if unknown:
        raise BadFingerprintFile(f"unknown arrays {', '.join(unknown)}")
    csi = _csi(arrays)
    n = len(csi)
    arrays.setdefault("times", np.full(n, UNKNOWN_TIME))
    arrays.setdefault("sigmas", np.full(n, DEFAULT_SIGMA))
    return Fingerprints(
        csi=csi,
        positions=_positions(arrays, n, cell),
        times=_real(arrays, "times", (n,), np.float64),
        sigmas=_real(arrays, "sigmas", (n,), np.float32),
    )


def _csi(arrays: _Arrays) -> NDArray[np.complex64]:
    raw = arrays.get("csi")
    if raw is None:
        raise BadFingerprintFile("no array csi")
    if raw.ndim == 3 and np.iscomplexobj(raw):
        if "scale" in arrays:
            raise BadFingerprintFile("scale belongs to csi of real pairs only")
        with np.errstate(over="ignore"):  # becomes infinite, and the check names the row
            return raw.astype(np.complex64)
    if raw.ndim == 4 and raw.shape[-1] == 2 and np.issubdtype(raw.dtype, np.floating):
        n = len(raw)
        scale = _real(arrays, "scale", (n,), np.float32) if "scale" in arrays else np.ones(n, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return as_complex(unpack_csi(raw.astype(np.float32), scale))
    raise BadFingerprintFile(
        f"csi is {raw.dtype} {list(raw.shape)}, neither complex [n, antennas, subcarriers] "
        "nor floating [n, antennas, subcarriers, 2]"
    )


def _positions(arrays: _Arrays, n: int, cell: Cell) -> NDArray[np.float32]:
    wgs84 = _WGS84 & arrays.keys()
    if "positions" in arrays and not wgs84:
        return _real(arrays, "positions", (n, 2), np.float32)
    if "positions" in arrays or wgs84 != _WGS84:
        raise BadFingerprintFile("positions, or both latitudes_deg and longitudes_deg, must be given")
    latitudes = _real(arrays, "latitudes_deg", (n,), np.float64)
    longitudes = _real(arrays, "longitudes_deg", (n,), np.float64)
    outside = ~((np.abs(latitudes) <= 90) & (np.abs(longitudes) <= 180))
    if outside.any():
        raise BadFingerprint(int(outside.argmax()), "latitude beyond 90 or longitude beyond 180 degrees")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    return np.stack(frame.to_local(latitudes, longitudes), axis=1).astype(np.float32)


def _real(arrays: _Arrays, name: str, shape: tuple[int, ...], dtype: type[_Real]) -> NDArray[_Real]:
    raw = arrays[name]
    if raw.shape != shape or raw.dtype.kind not in "fiu":
        raise BadFingerprintFile(f"{name} is {raw.dtype} {list(raw.shape)}, not real {list(shape)}")
    with np.errstate(over="ignore"):
        return raw.astype(dtype)
