"""Measured cells: fingerprint files to fine-tune a model on, and whole locations of them to test it on.

Repeated snapshots of one point are nearly copies of each other. A model that has seen one of them is not tested by
another. Fingerprints that stand within a stated distance of each other, directly or over others, are therefore one
location, and a location is trained on as a whole or held out as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.mateformer.recipe import Cells, Survey
from reference_db import Cell, Fingerprints, read_cell_file, read_fingerprint_file
from reference_db.errors import BadHoldOut, ReferenceDatabaseError, UndescribedCell
from reference_db.fingerprint_file import is_fingerprint_file
from reference_db.locations import choose_held_out, find_locations


class BadMeasuredCell(TrainerError):
    """A file of measured fingerprints cannot be read, or cannot be split into locations."""


@dataclass(frozen=True)
class MeasuredCell:
    cell: Cell
    csi: NDArray[np.complex64]  # [n, antennas, subcarriers]
    positions: NDArray[np.float32]  # [n, 2] metres
    sigmas: NDArray[np.float32]  # [n] 1-sigma errors of the positions, metres

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, rows: NDArray[np.int64]) -> MeasuredCell:
        return MeasuredCell(self.cell, self.csi[rows], self.positions[rows], self.sigmas[rows])


@dataclass(frozen=True)
class SplitCell:
    """A measured cell whose held-out locations come after those to train on."""

    measured: MeasuredCell
    locations: NDArray[np.int64]  # [n] the number of each fingerprint's location
    trained: int  # fingerprints to train on, which the held-out ones are compared with

    def training(self) -> tuple[MeasuredCell, NDArray[np.int64]]:
        return self.measured.select(np.arange(self.trained)), self.locations[: self.trained]


def find_fingerprint_files(paths: Iterable[str | Path | Survey]) -> list[Path]:
    """The files of a list of files and folders. Raises `BadMeasuredCell` for a path without any."""
    found: list[Path] = []
    for path in (Path(one.file if isinstance(one, Survey) else one) for one in paths):
        files = [path] if path.is_file() else sorted(one for one in path.glob("*") if is_fingerprint_file(one))
        if not files:
            raise BadMeasuredCell(f"there is no fingerprint file {path}")
        found += files
    return found


def load_measured_cells(files: Iterable[str | Path | Survey]) -> list[MeasuredCell]:
    """The cells of fingerprint files or folders of them. Files with the same description are one cell.

    Raises `BadMeasuredCell`.
    """
    parts: dict[str, list[MeasuredCell]] = {}
    for stated in files:
        survey = stated if isinstance(stated, Survey) else None
        for file in find_fingerprint_files([stated]):
            cell, read = _read(file, survey)
            one = MeasuredCell(cell, np.asarray(read.csi), read.positions, read.sigmas)
            parts.setdefault(cell.model_dump_json(), []).append(one)
    return [
        MeasuredCell(
            some[0].cell,
            np.concatenate([one.csi for one in some]),
            np.concatenate([one.positions for one in some]),
            np.concatenate([one.sigmas for one in some]),
        )
        for some in parts.values()
    ]


def _read(file: Path, survey: Survey | None) -> tuple[Cell, Fingerprints]:
    try:
        if survey is None:
            return read_fingerprint_file(file)
        cell = None if survey.cell_file is None else read_cell_file(Path(survey.cell_file))
        return read_fingerprint_file(file, cell, survey)
    except UndescribedCell as error:
        raise BadMeasuredCell(
            f"{file}: the file describes no cell; write an entry with file and cell_file under cells.fingerprints, or "
            "add the description as JSON under the name `cell`"
        ) from error
    except ReferenceDatabaseError as error:
        raise BadMeasuredCell(f"{file}: {str(error).removeprefix(f'{file.name}: ')}") from error


def split_measured_cells(cells: Cells, seed: int) -> list[SplitCell]:
    """The recipe's measured cells, each with a share of its locations held out. The same seed holds out the same.

    Raises `BadMeasuredCell` if a cell has too few locations, or one that holds most of its fingerprints.
    """
    return [_split(one, cells, seed) for one in load_measured_cells(cells.fingerprints)]


def _split(measured: MeasuredCell, cells: Cells, seed: int) -> SplitCell:
    locations, name = find_locations(measured.positions, cells.same_location), measured.cell.cell_id
    try:
        held = choose_held_out(locations, cells.held_out, np.random.default_rng([seed, *name.encode()]))
    except BadHoldOut as error:
        raise BadMeasuredCell(
            f"cell {name!r}: {error}; set cells.same_location, now {cells.same_location:g} m, below the distance of its"
            " points"
        ) from error
    rows = np.argsort(held, kind="stable")
    return SplitCell(measured.select(rows), locations[rows], int((~held).sum()))
