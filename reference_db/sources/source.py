"""A file as its variables by name, whatever its format. Nothing is loaded before it is asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile

SUFFIXES = (".safetensors", ".npz", ".npy", ".csv", ".mat", ".h5", ".hdf5", ".tfrecords", ".pcap", ".dat")
SUFFIXES_IN_WORDS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


class Variable(NamedTuple):
    """An array of a file: how to load it, and its type and shape for people, where these are known without loading."""

    load: Callable[[], NDArray[Any]]
    described: str | None = None

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Variable":
        return cls(lambda: array, describe_array(array))


class Source(NamedTuple):
    """The variables of a file, and the text that describes its cell, if it has one.

    `loose`: vectors may have two dimensions, and a scalar stands for a whole vector, as in MATLAB. `notes`: what a
    person should know of how the file was read, such as what was left out; a line each. `other_names`: further names of
    some variables, which a person may state.
    """

    variables: Mapping[str, Variable]
    cell: str | None = None
    loose: bool = False
    notes: tuple[str, ...] = ()
    other_names: Mapping[str, str] = MappingProxyType({})

    def load(self, name: str) -> NDArray[Any]:
        """Raises `BadFingerprintFile`."""
        try:
            return self.variables[name].load()
        except BadFingerprintFile:
            raise
        except Exception as error:  # the parsers raise errors of many kinds, about damaged files
            raise BadFingerprintFile(f"{name} cannot be read: {error}") from error

    def describe(self) -> str:
        listed = [f"{name} ({self.describe_variable(name)})" for name in self.variables]
        return f"the file has {', '.join(listed) or 'no array'}"

    def describe_variable(self, name: str) -> str:
        """The type and shape of a variable, for people. Loads it where only its values tell."""
        described = self.variables[name].described
        if described is not None:
            return described
        try:
            return describe_array(self.load(name))
        except BadFingerprintFile:
            return "unreadable"


def describe_array(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def open_source(path: Path) -> Source:
    """Opens a file that is neither .safetensors nor .npz. Raises `BadFingerprintFile` or `OSError`."""
    match path.suffix.lower():
        case ".npy":
            from reference_db.sources.npy import open_npy

            return open_npy(path)
        case ".csv":
            from reference_db.sources.csv_table import open_csv

            return open_csv(path)
        case ".mat":
            from reference_db.sources.matlab import open_matlab

            return open_matlab(path)
        case ".h5" | ".hdf5":
            from reference_db.sources.hdf5 import open_hdf5

            return open_hdf5(path)
        case ".tfrecords":
            from reference_db.sources.dichasus import open_dichasus

            return open_dichasus(path)
        case ".pcap":
            from reference_db.sources.nexmon import open_nexmon

            return open_nexmon(path)
        case ".dat":
            from reference_db.sources.intel5300 import open_intel5300

            return open_intel5300(path)
        case _:
            raise BadFingerprintFile(f"the suffix must be {SUFFIXES_IN_WORDS}")
