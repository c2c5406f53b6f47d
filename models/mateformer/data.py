"""The users of many cells, ready to be drawn from: their CSI, their positions, and who stands near whom."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.pipeline.recipe import Radio
from models.radio.channel import synthesise
from models.radio.path_table import PathTable
from models.radio.siting import YAW_RANGE
from models.radio.tracing import parse_cells, table_path
from reference_db.index.position import PositionIndex


@dataclass(frozen=True)
class RadioCell:
    """The reached users of one traced cell, seen by one array."""

    name: str
    csi: NDArray[np.complex64]  # [users, antennas, subcarriers]
    positions: NDArray[np.float32]  # [users, 2] metres from the BS
    line_of_sight: NDArray[np.bool_]  # [users]
    unreached: int  # users that no path arrives at, left out of the arrays


@dataclass(frozen=True)
class Corpus:
    """All users of the training cells in one array, and an index a cell to find neighbours with."""

    csi: NDArray[np.complex64]  # [users, antennas, subcarriers]
    positions: NDArray[np.float32]  # [users, 2]
    first: NDArray[np.int64]  # [cells] where each cell's users begin
    indices: list[PositionIndex]


def load_cell(path: Path, radio: Radio) -> RadioCell:
    """One cell by the site's own yaw."""
    table = PathTable.load(path)
    return _seen(table, radio, table.site.yaw)


def _seen(table: PathTable, radio: Radio, yaw: float) -> RadioCell:
    csi = synthesise(table, radio.array, yaw, radio.subcarriers, radio.bandwidth)
    reached = table.reached
    return RadioCell(
        name=table.site.name,
        csi=csi[reached],
        positions=table.users[reached, :2],
        line_of_sight=table.line_of_sight[reached],
        unreached=int((~reached).sum()),
    )


def load_cells(ranges: Iterable[str], folder: Path, radio: Radio) -> list[RadioCell]:
    """Raises `FileNotFoundError` for a cell that is not traced yet."""
    return [load_cell(table_path(folder, city, seed), radio) for city, seed in parse_cells(ranges)]


def build_corpus(ranges: Iterable[str], folder: Path, radio: Radio, seed: int) -> Corpus:
    """Every cell at its own yaw and ``radio.yaws - 1`` more, as if the operator had mounted the array otherwise."""
    rng = np.random.default_rng(seed)
    cells = []
    for city, number in parse_cells(ranges):
        table = PathTable.load(table_path(folder, city, number))
        turns = [0.0, *rng.uniform(-YAW_RANGE, YAW_RANGE, radio.yaws - 1)]
        cells += [_seen(table, radio, table.site.yaw + turn) for turn in turns]
    sizes = [len(cell.positions) for cell in cells]
    return Corpus(
        csi=np.concatenate([cell.csi for cell in cells]),
        positions=np.concatenate([cell.positions for cell in cells]),
        first=np.cumsum([0, *sizes[:-1]]).astype(np.int64),
        indices=[PositionIndex(cell.positions) for cell in cells],
    )


def data_digest(ranges: Iterable[str], folder: Path) -> str:
    """sha256 over the path tables' bytes, in order, hex."""
    digest = hashlib.sha256()
    for city, seed in parse_cells(ranges):
        digest.update(hashlib.sha256(table_path(folder, city, seed).read_bytes()).digest())
    return digest.hexdigest()
