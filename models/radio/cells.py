"""Traced cells as one array sees them: CSI, positions and line of sight of every user."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable, require_tables
from models.radio.street_changes import Street
from models.radio.tracing import band_folder, parse_cells, table_path


@dataclass(frozen=True)
class RadioCell:
    """The users of one traced cell that at least one path reaches."""

    name: str
    csi: NDArray[np.complex64]  # [users, antennas, subcarriers]
    positions: NDArray[np.float32]  # [users, 2] metres from the BS
    line_of_sight: NDArray[np.bool_]  # [users]
    unreached: int  # number of users without any path, which the arrays leave out


def load_cell(path: Path, radio: Radio) -> RadioCell:
    """A cell seen by an array at the site's own yaw."""
    table = PathTable.load(path)
    return observe_cell(table, radio, table.site.yaw)


def observe_cell(table: PathTable, radio: Radio, yaw: float, carrier_frequency: float | None = None) -> RadioCell:
    """A cell seen by an array at this yaw (radians), at the traced carrier or at this one (hertz)."""
    csi = synthesise(table, radio, yaw, carrier_frequency)
    reached = table.reached
    return RadioCell(
        name=table.site.name,
        csi=csi[reached],
        positions=table.users[reached, :2],
        line_of_sight=table.line_of_sight[reached],
        unreached=int((~reached).sum()),
    )


def load_cells(
    ranges: Iterable[str],
    folder: Path,
    radio: Radio,
    street: Street | None = None,
    carrier_frequency: float | None = None,
) -> list[RadioCell]:
    """The cells of ranges, as `table_paths`. Raises `PathTablesMissing` for a cell without a path table."""
    return [load_cell(path, radio) for path in table_paths(ranges, folder, street, carrier_frequency)]


def table_paths(
    ranges: Iterable[str], folder: Path, street: Street | None = None, carrier_frequency: float | None = None
) -> list[Path]:
    """The path tables of ranges such as ``munich:0-7``. Raises `PathTablesMissing` if any is missing.

    ``street``: what stands in the streets, None for bare ones. ``carrier_frequency``: the one of several carriers
    (hertz) that were traced into ``folder``.
    """
    if carrier_frequency is not None:
        folder = band_folder(folder, carrier_frequency)
    paths = [table_path(folder, city, seed, street=street) for city, seed in parse_cells(ranges)]
    require_tables(paths)
    return paths


def digest_tables(paths: Iterable[Path]) -> str:
    """sha256, hex, over the bytes of path tables in this order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
