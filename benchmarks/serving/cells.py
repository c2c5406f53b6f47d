"""Cells to be asked about: the demo's two, and as many more as are wanted, made of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.servers import THIS_CHECKOUT, Checkout
from reference_db import Cell, Fingerprints, read_fingerprint_file, write_fingerprint_file

DATA = Path(__file__).parents[1] / "data"
MEASURED = ("florence-0000", "florence-0001")
BLOCK_M = 60.0  # side of a measured cell
_PER_BLOCK = 2000
# Radii are not looked at, so they need not be good.
_CALIBRATION = {"FINGERPOST_CALIBRATION_SAMPLES": "40"}


def measured(number: int) -> tuple[Cell, Fingerprints]:
    return read_fingerprint_file(DATA / f"{MEASURED[number % len(MEASURED)]}-references.safetensors")


def street(number: int) -> tuple[Cell, Fingerprints]:
    """Cell `street-NUMBER`: 2,000 fingerprints of a measured cell, heard from another side."""
    cell, fingerprints = measured(number)
    described = cell.model_copy(update={"cell_id": f"street-{number}"})
    turned = _turned(fingerprints.csi, number)
    return described, Fingerprints(turned, fingerprints.positions, fingerprints.times, fingerprints.sigmas)


def town(n: int, antennas: int) -> tuple[Cell, Fingerprints]:
    """Cell `town-N` of n fingerprints at the measured cells' density, block beside block, each heard differently.

    Of every channel only the first `antennas` antennas and as many subcarriers.
    """
    cell, _ = measured(0)
    array = cell.array.model_copy(update={"columns": antennas})
    described = cell.model_copy(update={"cell_id": f"town-{n}", "array": array, "subcarriers": antennas})
    blocks = -(-n // _PER_BLOCK)
    side = int(np.ceil(np.sqrt(blocks)))
    csi = np.empty((n, antennas, antennas), np.complex64)
    positions = np.empty((n, 2), np.float32)
    for block in range(blocks):
        _, fingerprints = measured(block)
        rows = slice(block * _PER_BLOCK, min(n, (block + 1) * _PER_BLOCK))
        count = rows.stop - rows.start
        # Westernmost first: where not all are taken, the density stays.
        kept = np.argsort(fingerprints.positions[:, 0])[:count]
        csi[rows] = _turned(fingerprints.csi[kept, :antennas, :antennas], block)
        positions[rows] = fingerprints.positions[kept] + BLOCK_M * np.array(divmod(block, side), np.float32)
    return described, Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))


def import_cell(
    cell: Cell, fingerprints: Fingerprints, database: Path, artifact: Path, checkout: Checkout = THIS_CHECKOUT
) -> None:
    """By `fingerpost cells import`, with a short calibration."""
    database, artifact = database.resolve(), artifact.resolve()
    file = database.parent / f"{cell.cell_id}.safetensors"
    database.parent.mkdir(parents=True, exist_ok=True)
    write_fingerprint_file(file, cell, fingerprints)
    words = ("cells", "import", cell.cell_id, str(file), "--database", str(database), "--artifact", str(artifact))
    subprocess.run(
        checkout.command(*words),
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | _CALIBRATION,
        cwd=checkout.folder,
    )
    file.unlink()


def write_references(fingerprints: Fingerprints, path: Path) -> None:
    """For `FullGraph`."""
    csi = np.ascontiguousarray(fingerprints.csi).view(np.float32).reshape(*fingerprints.csi.shape, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, csi=csi, positions=fingerprints.positions)


def _turned(csi: NDArray[np.complex64], number: int) -> NDArray[np.complex64]:
    """Channels `[n, a, s]` with all angles and delays moved alike, by an amount that is the number's own; 0: none."""
    rng = np.random.default_rng(number)
    angle, delay = rng.uniform(-1, 1, 2) * (number > 0)
    a, s = np.arange(csi.shape[1])[:, np.newaxis], np.arange(csi.shape[2])
    turned: NDArray[np.complex64] = csi * np.exp(1j * (angle * a + delay * s)).astype(np.complex64)
    return turned
