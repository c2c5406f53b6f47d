"""Files that are arrays by name: safetensors and NumPy's npz. They may come from anywhere: sizes are checked first."""

import json
import lzma
import math
import mmap
import tokenize
import zipfile
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.source import Source, Variable
from reference_db.tensor_buffer import read_tensors
from reference_db.unique_names import refuse_repeated_names

_Arrays = dict[str, NDArray[np.generic]]

_ZIP = b"PK\x03\x04"
# The beginnings of files that people take for safetensors or npz. A safetensors file begins with the length of its
# header, 8 bytes that are not all text.
_FORMATS = {
    b"MATLAB": "a MATLAB file (over HTTP, send what `fingerpost cells import` makes of it)",
    b"\x93NUMPY": "an array of NumPy (.npy)",
    b"\x89HDF": "an HDF5 file",
}
_LENGTH_BYTES = 8
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_named_arrays(file: IO[bytes], most_bytes: int | None = None) -> Source:
    """The arrays of an open file, and the text `cell`. Detects the format by the first bytes.

    Arrays of a safetensors file are views of the mapped file. Raises `BadFingerprintFile` if the file is malformed or
    would decompress to more than `most_bytes`.
    """
    file.seek(0)
    magic = file.read(len(_ZIP))
    if magic != _ZIP and (other := _name_format(file)):
        raise BadFingerprintFile(f"it is {other}, neither safetensors nor npz")
    try:
        arrays, described = _read_npz(file, most_bytes) if magic == _ZIP else _read_safetensors(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadFingerprintFile(f"it is neither safetensors nor npz, or damaged: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise BadFingerprintFile(str(error)) from error
    except (OSError, ValueError, EOFError, OverflowError, RuntimeError) as error:
        raise BadFingerprintFile(str(error)) from error
    return Source({name: Variable.of(array) for name, array in arrays.items()}, described)


def _name_format(file: IO[bytes]) -> str | None:
    """What a file is that is neither npz nor safetensors, by its first bytes. None: it may be safetensors."""
    file.seek(0)
    head = file.read(_LENGTH_BYTES)
    if named := next((name for magic, name in _FORMATS.items() if head.startswith(magic)), None):
        return named
    return "text" if head and all(byte >= ord(" ") or byte in b"\t\r\n" for byte in head) else None


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
