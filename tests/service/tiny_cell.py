"""Cells in memory: any fingerprints as a version, and noise of the tiny artifact's shape."""

from datetime import UTC, datetime

import numpy as np

from reference_db import AntennaArray, Cell, CellVersion, Fingerprints, Origin, append_fingerprints, replace_cell
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS

ORIGIN = Origin("test", datetime(2026, 1, 1, tzinfo=UTC))


def version_of(cell: Cell, *parts: Fingerprints) -> CellVersion:
    """The first part as the cell was created, the others appended, of a version that no store holds."""
    update = replace_cell(None, cell, parts[0], ORIGIN)
    for part in parts[1:]:
        update = append_fingerprints(update.contents, part, ORIGIN)
    return CellVersion.assemble(update.contents)


def tiny_cell(antennas: int = ANTENNAS) -> Cell:
    return Cell(
        cell_id="c",
        latitude_deg=43.7,
        longitude_deg=11.2,
        height=10,
        yaw=0,
        array=AntennaArray(rows=1, columns=antennas),
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=SUBCARRIERS,
    )


def positive_csi(n: int) -> np.ndarray:
    """Noise that the tiny artifact's network has an answer to."""
    return np.random.default_rng(n).uniform(0.5, 1, (n, ANTENNAS, SUBCARRIERS)).astype(np.complex64)


def cell_of(positions: np.ndarray, csi: np.ndarray | None = None, antennas: int = ANTENNAS) -> CellVersion:
    n = len(positions)
    csi = positive_csi(n) if csi is None else csi
    fingerprints = Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))
    return version_of(tiny_cell(antennas), fingerprints)


def uneven_street(n: int, seed: int) -> np.ndarray:
    """Denser in the west than in the east: errors differ from place to place."""
    return (60 * np.random.default_rng(seed).uniform(size=(n, 2)) ** 2).astype(np.float32)
