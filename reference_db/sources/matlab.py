"""MATLAB's .mat files: version 5 to 7 by SciPy, version 7.3 (HDF5) by h5py. Both come with an extra."""

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.extras import import_reader
from reference_db.sources.hdf5 import CELL, read_data_sets
from reference_db.sources.source import Source, Variable

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATLAB = b"MATLAB"
_HEAD_BYTES = 128  # of version 5
_HDF5_PLACES = (0, 512)  # MATLAB writes a header of its own before it
_MAYBE_COMPLEX = frozenset(("double", "single"))
_NUMBERS = _MAYBE_COMPLEX | {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "logical"}


def open_matlab(path: Path) -> Source:
    """The numeric variables of a file, those in structures as `structure.field`, and the text `cell`.

    Raises `BadFingerprintFile` for a malformed file, or if the packages that read it are missing.
    """
    with path.open("rb") as file:
        head = file.read(_HDF5_PLACES[-1] + len(_HDF5))
    is_hdf5 = any(head[place:].startswith(_HDF5) for place in _HDF5_PLACES)
    package = import_reader("h5py" if is_hdf5 else "scipy.io", path)
    try:
        if is_hdf5:
            variables, cell = read_data_sets(package, path, reverse=True)
        else:
            if head.startswith(_MATLAB):
                _refuse_cut(path, head)
            variables, cell = _open_version_5(package, path)
    except BadFingerprintFile:
        raise
    except Exception as error:  # the parsers raise errors of many kinds, about damaged files
        is_matlab = is_hdf5 or head.startswith(_MATLAB)
        fault = "it is a MATLAB file that is" if is_matlab else "it is not a MATLAB file, or"
        raise BadFingerprintFile(f"{fault} damaged or cut off: {error}") from error
    return Source(variables, cell, loose=True)


def _open_version_5(scipy_io: Any, path: Path) -> tuple[dict[str, Variable], str | None]:
    variables: dict[str, Variable] = {}
    text = None
    for name, shape, kind in scipy_io.whosmat(path):
        if kind == "char" and name == CELL:
            text = str(np.ravel(_load_version_5(scipy_io, path, name))[0])
        elif kind == "struct":
            loaded = _load_version_5(scipy_io, path, name)
            fields = {field: loaded.flat[0][field] for field in loaded.dtype.names or ()} if loaded.size == 1 else {}
            for field, value in fields.items():
                if isinstance(value, np.ndarray) and value.dtype.kind in "fiucb":
                    variables[f"{name}.{field}"] = Variable.of(value)
        elif kind in _NUMBERS:
            load = partial(_load_version_5, scipy_io, path, name)
            # The list of variables does not tell whether floats are complex.
            variables[name] = Variable(load, None if kind in _MAYBE_COMPLEX else f"{kind} {list(shape)}")
    return variables, text


def _load_version_5(scipy_io: Any, path: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = scipy_io.loadmat(path, variable_names=[name])[name]
    return array


def _refuse_cut(path: Path, head: bytes) -> None:
    """Raises `BadFingerprintFile` if the last variable of a file of version 5 is not whole."""
    tag = struct.Struct("<II" if head[_HEAD_BYTES - 2 : _HEAD_BYTES] == b"IM" else ">II")
    place, whole, size = _HEAD_BYTES, 0, path.stat().st_size
    with path.open("rb") as file:
        while place != size:
            file.seek(place)
            start = file.read(tag.size)
            place += tag.size + (tag.unpack(start)[1] if len(start) == tag.size else 0)
            if place > size:
                raise BadFingerprintFile(
                    f"the file is damaged or cut off, after {whole} whole variable{'' if whole == 1 else 's'}"
                )
            whole += 1
