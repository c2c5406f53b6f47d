"""NumPy arrays in files of their own: `csi.npy`, and in the same folder `positions.npy` and others."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.field_names import names_csi
from reference_db.sources.source import Source, Variable, describe_array


def open_npy(path: Path) -> Source:
    """The CSI in `path`, and the arrays beside it whose names begin alike: `a_csi.npy`, `a_positions.npy`.

    A variable has the name of its file without the common beginning and without the suffix; the CSI is `csi`. Raises
    `BadFingerprintFile` or `OSError`.
    """
    prefix = names_csi(path)
    if prefix is None:
        raise BadFingerprintFile(
            "the name does not say that it holds CSI, so no other file belongs to it; call it csi.npy or NAME-csi.npy, "
            "and the positions positions.npy or NAME-positions.npy"
        )
    variables = {"csi": _open(path)}
    for other in sorted(path.parent.glob("*.npy")):
        name = other.stem.removeprefix(prefix)
        if other == path or not other.stem.startswith(prefix) or not name:
            continue
        try:
            variables.setdefault(name, _open(other))
        except (BadFingerprintFile, OSError) as error:
            variables.setdefault(name, _unreadable(str(error)))
    return Source(variables)


def _unreadable(reason: str) -> Variable:
    """A file that cannot be read. This is an error only if the file is used."""

    def fail() -> NDArray[Any]:
        raise BadFingerprintFile(reason)

    return Variable(fail, "unreadable")


def _open(path: Path) -> Variable:
    return Variable(partial(_map, path), describe_array(_map(path)))


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # Python's parser raises errors of many kinds, about damaged headers
        raise BadFingerprintFile(f"{path.name} is not an array of numbers in NumPy's format: {error}") from error
    return array
