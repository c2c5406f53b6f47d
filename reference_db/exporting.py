"""Exports a version of a cell to a file that `fingerprint_file` can import again."""

import json
import math
import zipfile
from collections.abc import Iterator
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_description import write_description
from reference_db.contents import Contents

FileFormat = Literal["safetensors", "npz"]

_ARRAYS = {
    "csi": ("F16", np.float16),
    "scale": ("F32", np.float32),
    "positions": ("F32", np.float32),
    "times": ("F64", np.float64),
    "sigmas": ("F32", np.float32),
}  # name: dtype in safetensors, dtype in NumPy


def export_fingerprints(contents: Contents, file: IO[bytes], file_format: FileFormat) -> None:
    """Writes the fingerprints of a version and the description of its cell, with CSI as stored: float16 with a scale.

    Writes segment by segment, so a large cell is not copied in memory. Importing the file gives the same ids.
    """
    {"safetensors": _write_safetensors, "npz": _write_npz}[file_format](contents, file)


def _write_safetensors(contents: Contents, file: IO[bytes]) -> None:
    header: dict[str, Any] = {"__metadata__": {"cell": write_description(contents.manifest.cell)}}
    end = 0
    for name, (dtype, numpy_dtype) in _ARRAYS.items():
        first, shape = end, _shape(contents, name)
        end = first + math.prod(shape) * np.dtype(numpy_dtype).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays must start at a multiple of 8 bytes
    file.write(len(text).to_bytes(8, "little") + text)
    for name in _ARRAYS:
        _write_rows(contents, name, file)


def _write_npz(contents: Contents, file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, (_, dtype) in _ARRAYS.items():
            described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": _shape(contents, name)}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, described)
                _write_rows(contents, name, member)
        with archive.open("cell.npy", "w") as member:
            np.lib.format.write_array(member, np.array(write_description(contents.manifest.cell)))


def _shape(contents: Contents, name: str) -> tuple[int, ...]:
    cell, n = contents.manifest.cell, len(contents)
    return {"csi": (n, cell.antennas, cell.subcarriers, 2), "positions": (n, 2)}.get(name, (n,))


def _write_rows(contents: Contents, name: str, file: IO[bytes]) -> None:
    for rows in _rows(contents, name):
        file.write(np.ascontiguousarray(rows).data.cast("B"))


def _rows(contents: Contents, name: str) -> Iterator[NDArray[Any]]:
    for segment, kept in zip(contents.segments, contents.kept, strict=True):
        rows = getattr(segment, name)
        yield rows if kept is None else rows[kept]
