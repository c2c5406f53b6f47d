"""HDF5 files, by h5py, which comes with an extra. MATLAB's version 7.3 is one of them, with its axes in reverse."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.extras import import_reader
from reference_db.sources.source import Source, Variable, describe_array

CELL = "cell"
_COMPLEX_PARTS = (("real", "imag"), ("re", "im"), ("r", "i"))  # of MATLAB, of other programs, of h5py itself


def open_hdf5(path: Path) -> Source:
    """The numeric data sets of a file, those in groups as `group.name`, and the text `cell`. Axes as h5py shows them.

    Raises `BadFingerprintFile` for a malformed or truncated file, or if h5py is missing.
    """
    try:
        variables, cell = read_data_sets(import_reader("h5py", path), path, reverse=False)
    except BadFingerprintFile:
        raise
    except Exception as error:  # h5py raises errors of many kinds, about damaged files
        raise BadFingerprintFile(f"it is not an HDF5 file, or damaged: {error}") from error
    return Source(variables, cell)


def read_data_sets(h5py: Any, path: Path, *, reverse: bool) -> tuple[dict[str, Variable], str | None]:
    """The numeric data sets and the text `cell`. `reverse`: with the axes as MATLAB shows them."""
    variables: dict[str, Variable] = {}
    text = None
    with h5py.File(path, "r") as file:
        found: list[tuple[str, Any]] = []
        file.visititems(lambda name, one: found.append((name, one)) if isinstance(one, h5py.Dataset) else None)
        for name, data_set in found:
            if name.startswith("#"):  # MATLAB's own
                continue
            if name == CELL:
                text = _read_text(data_set)
            elif data_set.dtype.kind in "fiuc" or _is_complex(data_set.dtype):
                shape = list(data_set.shape[::-1] if reverse else data_set.shape)
                described = f"{'complex' if _is_complex(data_set.dtype) else data_set.dtype} {shape}"
                load = partial(_load, h5py, path, name, reverse)
                if (dotted := name.replace("/", ".")) in variables:
                    raise BadFingerprintFile(f"it has two data sets that are called {dotted} here")
                variables[dotted] = Variable(load, described)
    return variables, text


def _load(h5py: Any, path: Path, name: str, reverse: bool) -> NDArray[Any]:
    with h5py.File(path, "r") as file:
        raw = file[name][()]
    if _is_complex(raw.dtype):
        real, imaginary = raw.dtype.names
        raw = raw[real] + 1j * raw[imaginary]
    array: NDArray[Any] = raw.T if reverse else raw
    return array


def _is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.names in _COMPLEX_PARTS


def _read_text(data_set: Any) -> str:
    """Text as MATLAB stores it, one number a character, or as HDF5 does."""
    raw = data_set[()]
    if isinstance(raw, bytes):
        return raw.decode()
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "ui":
        return "".join(map(chr, raw.T.ravel().tolist()))
    raise BadFingerprintFile(f"{CELL} is {describe_array(np.asarray(raw))}, expected text")
