"""Folders of data that others publish, as fingerprints of one cell, and the split into a survey and users to locate."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.errors import BadFingerprintFile, ReferenceDatabaseError
from reference_db.fingerprint_file import FingerprintFile, write_fingerprint_file
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.layout import Layout
from reference_db.locations import choose_held_out, find_locations, find_squares

HoldOut = Literal["location", "square", "none"]

# Of files that are whole by themselves. A table is positions here, and .npy files belong to each other.
_SUFFIXES = (".h5", ".hdf5", ".tfrecords", ".pcap", ".dat", ".mat", ".npz", ".safetensors")
_MADE = ("-references.safetensors", "-users.safetensors")  # `name_survey_files`
_RECORDINGS = "tfrecords"  # the folder of DICHASUS's recordings, below spec.json
_DEEPMIMO = "params.json"


def find_data_files(source: Path) -> list[Path]:
    """The files of a folder, sorted by name, all with one suffix; `source` itself if it is a file.

    Surveys and users that were made of a folder before are left out.

    Raises `BadFingerprintFile` if there is none, or if the folder has files of several formats.
    """
    if not source.exists():
        raise BadFingerprintFile(f"there is no file or folder {source}")
    if not source.is_dir():
        return [source]
    folders = [source, source / _RECORDINGS]
    there = [file for folder in folders for file in sorted(folder.glob("*")) if not file.name.endswith(_MADE)]
    files = [file for file in there if file.suffix.lower() in _SUFFIXES]
    formats = sorted({file.suffix.lower() for file in files})
    if (source / _DEEPMIMO).is_file():
        raise BadFingerprintFile(
            f"{source} is a scenario of DeepMIMO, with paths and without CSI; fingerpost-train scenes deepmimo reads it"
        )
    if not files:
        raise BadFingerprintFile(
            f"{source} has no file that ends in {', '.join(_SUFFIXES)}; {_describe_content(there)}"
        )
    if len(formats) > 1:
        raise BadFingerprintFile(f"{source} has files of several formats, {', '.join(formats)}; name one file")
    return files


def _describe_content(there: list[Path]) -> str:
    """What a folder without data has instead, and what to do."""
    suffixes = sorted({file.suffix.lower() or "no suffix" for file in there if file.is_file()})
    folders = [file.name for file in there if file.is_dir()]
    parts = [f"it has files of {', '.join(suffixes)}"] if suffixes else []
    parts += [f"it has the folder {folders[0]}: name that one"] if folders else []
    if ".pcapng" in suffixes:
        parts.append("save captures as pcap (editcap -F pcap)")
    if {".npy", ".csv"} & set(suffixes):
        parts.append("a .npy or .csv file is read if you name it")
    return "; ".join(parts) or "it is empty"


class Data(NamedTuple):
    """The fingerprints of files, and notes on what of these files is left out or not used."""

    fingerprints: Fingerprints
    notes: list[str]


def read_data_files(files: list[Path], cell: Cell, layout: Layout) -> Data:
    """The fingerprints of all files, checked. One file at a time is in memory, and what the layout keeps of each.

    Raises `BadFingerprintFile`, which names the file.
    """
    parts = []
    for file in files:
        try:
            parts.append(_read_data_file(file, cell, layout))
        except BadFingerprintFile as error:
            if len(files) == 1:
                raise
            raise BadFingerprintFile(f"{error}; each of the {len(files)} files needs CSI and positions") from error
    read = [one.fingerprints for one in parts]
    fingerprints = Fingerprints(
        csi=np.concatenate([one.csi for one in read]),
        positions=np.concatenate([one.positions for one in read]),
        times=np.concatenate([one.times for one in read]),
        sigmas=np.concatenate([one.sigmas for one in read]),
    )
    return Data(fingerprints, [note for one in parts for note in one.notes])


def _read_data_file(file: Path, cell: Cell, layout: Layout) -> Data:
    opened = FingerprintFile.open(file, layout)
    try:
        fingerprints = opened.fingerprints(cell)
        check_fingerprints(fingerprints, cell)
    except ReferenceDatabaseError as error:
        raise BadFingerprintFile(f"{file.name}: {error}") from error
    notes = [*opened.notes]
    if opened.unused:
        notes.append(f"not used: {', '.join(opened.unused)}")
    return Data(fingerprints, [f"{file.name}: {note}" for note in notes])


def hold_out(fingerprints: Fingerprints, by: HoldOut, share: float, distance: float, seed: int) -> NDArray[np.bool_]:
    """Whether each fingerprint is held out of the survey: bool `[n]`. The same seed holds out the same.

    `location`: a share of the locations, whole; fingerprints within `distance` metres of each other, directly or over
    others, are one. `square`: a share of the squares of this side. Raises `BadHoldOut`.
    """
    if by == "none":
        return np.zeros(len(fingerprints), np.bool_)
    number: Callable[[NDArray[np.float32], float], NDArray[np.int64]]
    number = find_locations if by == "location" else find_squares
    return choose_held_out(number(fingerprints.positions, distance), share, np.random.default_rng(seed))


def name_survey_files(folder: Path, cell: Cell) -> tuple[Path, Path]:
    """The file of a cell's survey and that of the users that were held out of it."""
    survey, users = (folder / f"{cell.cell_id}{ending}" for ending in _MADE)
    return survey, users


def write_survey_and_users(folder: Path, cell: Cell, fingerprints: Fingerprints, held: NDArray[np.bool_]) -> list[Path]:
    """Writes the survey, and the users if any fingerprint is held out; else removes those of before. Returns the files.

    Raises the errors of `check_fingerprints`, before anything is written, and `OSError`.
    """
    check_fingerprints(fingerprints, cell)
    written = []
    for file, rows in zip(name_survey_files(folder, cell), (~held, held), strict=True):
        if not rows.any():
            file.unlink(missing_ok=True)  # users of another split are in this survey
            continue
        part = Fingerprints(
            fingerprints.csi[rows], fingerprints.positions[rows], fingerprints.times[rows], fingerprints.sigmas[rows]
        )
        write_fingerprint_file(file, cell, part)
        written.append(file)
    return written
