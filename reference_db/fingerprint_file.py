"""Reads and writes import files: a cell's fingerprints as safetensors, as NumPy's npz, or in a foreign format.

A file has these arrays of n rows, under these names or other usual ones (`field_names`), in this layout or in another
that is stated (`Layout`):

- `csi`: complex `[n, antennas, subcarriers]`, or real pairs `[n, antennas, subcarriers, 2]`, optionally with `scale`
  `[n]`, a factor per fingerprint;
- `positions` `[n, 2]`, metres east and north of the base station, or `latitudes_deg` and `longitudes_deg` `[n]`;
- `times` `[n]`, Unix seconds, optional. The default is 0, which means unknown: the time of the file or of the import
  would make old fingerprints look new;
- `sigmas` `[n]`, 1-sigma error of the position labels in metres, optional. The default is 0.05, a surveyed label.

The description of the cell is JSON (`cell_description`): the safetensors metadata `cell`, the npz array `cell` (a
string), or a separate file.

Arrays may have any memory order, byte order and width. Integers are real numbers too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

from reference_db.cell import Cell
from reference_db.cell_description import read_description, write_description
from reference_db.durable_file import write_durably
from reference_db.errors import BadCellDescription, BadFingerprintFile, UndescribedCell
from reference_db.fingerprint_arrays import WGS84, make_fingerprints, read_csi
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.half_csi import pack_csi
from reference_db.layout import CONVENTION, Layout, loosen
from reference_db.segment import Segment
from reference_db.sources.field_names import choose_variables, names_csi
from reference_db.sources.named_arrays import read_named_arrays
from reference_db.sources.source import SUFFIXES, Source, open_source

UPLOADED = frozenset((".safetensors", ".npz"))  # suffixes of files that go over HTTP as they are

_Arrays = dict[str, NDArray[np.generic]]

_WRITTEN = ("csi", "scale", "positions", "times", "sigmas")
_KNOWN = {*_WRITTEN} | WGS84


@dataclass(frozen=True, eq=False)
class FingerprintFile:
    """An import file, not checked yet: its arrays by field, the cell that it describes, if any, and its layout.

    `unused` names the variables that are no field. `notes`: what of the file is left out, or lacks. `describe` says
    what variables it has.
    """

    arrays: _Arrays
    cell: Cell | None
    layout: Layout = CONVENTION
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    describe: Callable[[], str] | None = None

    @classmethod
    def open(cls, path: Path, layout: Layout = CONVENTION) -> Self:
        """Reads a file of any format, by its suffix. Raises `BadFingerprintFile`, which names the file."""
        try:
            if path.suffix.lower() in UPLOADED:
                with path.open("rb") as opened:
                    return cls.read(opened, layout=layout)
            source = open_source(path)
            return cls._of(source, layout, frozenset(source.variables))
        except BadCellDescription as error:
            raise BadCellDescription(error.faults, path.name) from error
        except BadFingerprintFile as error:
            raise BadFingerprintFile(f"{path.name}: {error}") from error
        except OSError as error:
            raise BadFingerprintFile(f"{path.name}: {error.strerror or error}") from error

    @classmethod
    def read(cls, file: IO[bytes], most_bytes: int | None = None, layout: Layout = CONVENTION) -> Self:
        """Reads an open safetensors or npz file, detected by its first bytes. Arrays may be views of the mapped file.

        Raises `BadFingerprintFile` if the file is malformed, if it would decompress to more than `most_bytes`, or if it
        has arrays that are no field; these may be there where the layout names fields.
        """
        source = read_named_arrays(file, most_bytes)
        return cls._of(source, layout, frozenset(source.variables) if layout.fields else frozenset())

    @classmethod
    def _of(cls, source: Source, layout: Layout, others: frozenset[str]) -> Self:
        """`others`: variables that may be there though they are no field."""
        chosen = choose_variables(source, layout.fields)
        unused = sorted(source.variables.keys() - chosen.values())
        if unknown := [name for name in unused if name not in others]:
            allowed = next((f"{field}={name}" for field, name in chosen.items()), "csi=NAME")
            raise BadFingerprintFile(
                f"unknown arrays: {', '.join(unknown)}; expected only {', '.join(sorted(_KNOWN))}, or other usual "
                f"names; state --field {allowed} to leave others out"
            )
        cell = None if source.cell is None else read_description(source.cell, former=True)
        if "csi" not in chosen and "csi_real" not in chosen:
            raise BadFingerprintFile(f"the array csi is missing; {source.describe()}{_suggest_csi(source, chosen)}")
        arrays = {field: source.load(name) for field, name in chosen.items()}
        arrays = loosen(arrays) if source.loose else arrays
        return cls(arrays, cell, layout, tuple(unused), source.notes, source.describe)

    def fingerprints(self, cell: Cell) -> Fingerprints:
        """The arrays as fingerprints of `cell`. Call `check_fingerprints` on the result.

        Raises `BadFingerprintFile` for missing or malformed arrays, and `BadFingerprint` for an impossible latitude or
        longitude.
        """
        arrays = self.layout.lay_out(self.arrays, cell)
        if self.describe is not None and not ({"positions"} | WGS84) & arrays.keys():
            raise BadFingerprintFile(
                f"the file needs either positions or both latitudes_deg and longitudes_deg; {self.describe()}"
            )
        return make_fingerprints(arrays, cell)

    def write_upload(self, path: Path, cell: Cell | None) -> None:
        """Writes the file as safetensors in the convention, with the description of `cell` if there is one.

        The values of the arrays are not checked. Raises `BadFingerprintFile` for arrays that have no such form.
        """
        arrays = self.layout.lay_out(self.arrays, cell)
        csi = read_csi(arrays)
        if np.isfinite(csi).all():
            arrays["csi"], arrays["scale"] = pack_csi(csi)
        else:
            arrays["csi"] = csi.view(np.float32).reshape(*csi.shape, 2)
        written = {name: _portable(name, array) for name, array in arrays.items()}
        save_file(written, path, metadata=None if cell is None else {"cell": write_description(cell)})


def read_fingerprint_file(
    path: Path,
    cell: Cell | None = None,
    layout: Layout = CONVENTION,
) -> tuple[Cell, Fingerprints]:
    """Reads a file of any format and checks its fingerprints against `cell`, or the cell that the file describes.

    Raises `BadFingerprintFile` if the file cannot be read in this layout, `BadFingerprint` with the first unacceptable
    row, and `TooFewFingerprints` if there is no row.
    """
    file = FingerprintFile.open(path, layout)
    cell = cell or file.cell
    if cell is None:
        raise UndescribedCell(
            f"{path.name}: the file describes no cell, and no description was given; give one with --cell-file, or add "
            "it as JSON under the name `cell`"
        )
    try:
        fingerprints = file.fingerprints(cell)
    except BadFingerprintFile as error:
        raise BadFingerprintFile(f"{path.name}: {error}") from error
    check_fingerprints(fingerprints, cell)
    return cell, fingerprints


def is_fingerprint_file(path: Path) -> bool:
    """Whether the name of a file is that of fingerprints. Of arrays in files of their own, it is the one with CSI."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES and (suffix != ".npy" or names_csi(path) is not None)


def read_cell_file(path: Path, cell_id: str | None = None) -> Cell:
    """Reads the description of a cell from a JSON file; of cell `cell_id` where it names none.

    Raises `BadFingerprintFile` if the file cannot be read, and `BadCellDescription`.
    """
    try:
        described = path.read_bytes()
    except OSError as error:
        raise BadFingerprintFile(f"{path.name}: {error.strerror}") from error
    try:
        return read_description(described, cell_id)
    except BadCellDescription as error:
        raise BadCellDescription(error.faults, path.name) from error


def write_fingerprint_file(path: Path, cell: Cell, fingerprints: Fingerprints) -> None:
    """Writes an import file as safetensors, with CSI as float16 and a scale. Equal input gives equal bytes.

    Raises the errors of `check_fingerprints`, and writes nothing then.
    """
    check_fingerprints(fingerprints, cell)
    segment = Segment.of(fingerprints)
    arrays = {name: np.ascontiguousarray(getattr(segment, name)) for name in _WRITTEN}
    write_durably(path, save(arrays, metadata={"cell": write_description(cell)}))


def _suggest_csi(source: Source, chosen: Mapping[str, str]) -> str:
    """The variable that may be the CSI, if only one is complex or has the rank of CSI."""
    left = {name: source.describe_variable(name) for name in source.variables if name not in chosen.values()}
    for likely in (
        [name for name, described in left.items() if "complex" in described],
        [name for name, described in left.items() if described.count(",") >= 2],
    ):
        if len(likely) == 1:
            return f"; if {likely[0]} is the CSI, state --field csi={likely[0]}"
    return ""


def _portable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array as safetensors can hold it. Floats keep their width: it tells how exact they are."""
    if array.dtype.kind not in "fiu":
        raise BadFingerprintFile(f"{name} is {array.dtype} {list(array.shape)}, expected real numbers")
    width = min(array.dtype.itemsize, 8) if array.dtype.kind == "f" else 8
    return np.ascontiguousarray(array, f"f{width}")
