"""MATLAB's .mat files: version 5 to 7 by SciPy, version 7.3 (HDF5) by h5py. Both come with an extra."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.source import Source, Variable, describe_array

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_PLACES = (0, 512)  # MATLAB writes a header of its own before it
_CELL = "cell"
_COMPLEX_PARTS = (("real", "imag"), ("re", "im"), ("r", "i"))  # MATLAB writes the first, other programs the others
_MAYBE_COMPLEX = frozenset(("double", "single"))
_NUMBERS = _MAYBE_COMPLEX | {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "logical"}


def open_matlab(path: Path) -> Source:
    """The numeric variables of a file, those in structures as `structure.field`, and the text `cell`.

    Raises `BadFingerprintFile` for a malformed file, or if the packages that read it are missing.
    """
    with path.open("rb") as file:
        head = file.read(_HDF5_PLACES[-1] + len(_HDF5))
    is_hdf5 = any(head[place:].startswith(_HDF5) for place in _HDF5_PLACES)
    package = _import("h5py") if is_hdf5 else _import("scipy.io")
    try:
        variables, cell = (_open_hdf5 if is_hdf5 else _open_version_5)(package, path)
    except BadFingerprintFile:
        raise
    except Exception as error:  # the parsers raise errors of many kinds, about damaged files
        raise BadFingerprintFile(f"it is not a MATLAB file: {error}") from error
    return Source(variables, cell, loose=True)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BadFingerprintFile(
            f"reading .mat files needs the package {package}: pip install 'fingerpost[matlab]'"
        ) from error


def _open_version_5(scipy_io: Any, path: Path) -> tuple[dict[str, Variable], str | None]:
    variables: dict[str, Variable] = {}
    text = None
    for name, shape, kind in scipy_io.whosmat(path):
        if kind == "char" and name == _CELL:
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


def _open_hdf5(h5py: Any, path: Path) -> tuple[dict[str, Variable], str | None]:
    variables: dict[str, Variable] = {}
    text = None
    with h5py.File(path, "r") as file:
        found: list[tuple[str, Any]] = []
        file.visititems(lambda name, one: found.append((name, one)) if isinstance(one, h5py.Dataset) else None)
        for name, dataset in found:
            if name.startswith("#"):  # MATLAB's own
                continue
            if name == _CELL:
                text = _read_text(dataset)
            elif dataset.dtype.kind in "fiuc" or _is_complex(dataset.dtype):
                described = f"{'complex' if _is_complex(dataset.dtype) else dataset.dtype} {list(dataset.shape[::-1])}"
                variables[name.replace("/", ".")] = Variable(partial(_load_hdf5, h5py, path, name), described)
    return variables, text


def _load_hdf5(h5py: Any, path: Path, name: str) -> NDArray[Any]:
    """With its axes as MATLAB shows them: HDF5 has them in reverse."""
    with h5py.File(path, "r") as file:
        raw = file[name][()]
    if _is_complex(raw.dtype):
        real, imaginary = raw.dtype.names
        raw = raw[real] + 1j * raw[imaginary]
    array: NDArray[Any] = raw.T
    return array


def _is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.names in _COMPLEX_PARTS


def _read_text(dataset: Any) -> str:
    """Text as MATLAB stores it, one number a character, or as HDF5 does."""
    raw = dataset[()]
    if isinstance(raw, bytes):
        return raw.decode()
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "ui":
        return "".join(map(chr, raw.T.ravel().tolist()))
    raise BadFingerprintFile(f"{_CELL} is {describe_array(np.asarray(raw))}, expected text")
