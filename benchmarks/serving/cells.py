"""Cells of the benchmarks: the demo's two, and any number of cells derived from them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.servers import THIS_CHECKOUT, Checkout
from models.artifact.channel_transform import ChannelTransform
from reference_db import Cell, Fingerprints, read_fingerprint_file, write_fingerprint_file

DATA = Path(__file__).parents[1] / "data"
MEASURED = ("florence-0000", "florence-0001")
BLOCK_M = 60.0  # side of a measured cell
_PER_BLOCK = 2000
_SAMPLED = 256  # fingerprints that show a cell's power and delays
# The benchmarks do not use the stated accuracy, so a short calibration is enough.
_CALIBRATION = {"FINGERPOST_CALIBRATION_SAMPLES": "40"}


def measured(number: int) -> tuple[Cell, Fingerprints]:
    return read_fingerprint_file(DATA / f"{MEASURED[number % len(MEASURED)]}-references.safetensors")


def street(number: int) -> tuple[Cell, Fingerprints]:
    """Cell `street-NUMBER`: the 2,000 fingerprints of a measured cell, with angles and delays shifted."""
    cell, fingerprints = measured(number)
    described = cell.model_copy(update={"cell_id": f"street-{number}"})
    shifted = _shifted(fingerprints.csi, number)
    return described, Fingerprints(shifted, fingerprints.positions, fingerprints.times, fingerprints.sigmas)


def town(n: int, antennas: int) -> tuple[Cell, Fingerprints]:
    """Cell `town-N`: n fingerprints at the measured cells' density, in blocks side by side, each shifted differently.

    Only the first `antennas` antennas, and as many subcarriers, of every channel.
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
        # From the west: a partial block keeps the density.
        kept = np.argsort(fingerprints.positions[:, 0])[:count]
        csi[rows] = _shifted(fingerprints.csi[kept, :antennas, :antennas], block)
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
    force = "--force"  # the CSI of a synthetic town of a million places repeats itself
    subprocess.run(
        checkout.command(*words, force),
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | _CALIBRATION,
        cwd=checkout.folder,
    )
    file.unlink()


def write_references(cell: Cell, fingerprints: Fingerprints, path: Path) -> None:
    """Writes the npz that `FullGraph` reads."""
    csi = np.ascontiguousarray(fingerprints.csi).view(np.float32).reshape(*fingerprints.csi.shape, 2)
    channel = ChannelTransform.of_cell(cell, fingerprints.csi[:_SAMPLED])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        csi=csi,
        positions=fingerprints.positions,
        sigmas=fingerprints.sigmas,
        lines=np.array([cell.array.lines, cell.array.columns]),
        **channel.constants,
    )


def _shifted(csi: NDArray[np.complex64], number: int) -> NDArray[np.complex64]:
    """Channels `[n, a, s]` with all angles and delays shifted by an amount drawn from `number`; 0: no shift."""
    rng = np.random.default_rng(number)
    angle, delay = rng.uniform(-1, 1, 2) * (number > 0)
    a, s = np.arange(csi.shape[1])[:, np.newaxis], np.arange(csi.shape[2])
    shifted: NDArray[np.complex64] = csi * np.exp(1j * (angle * a + delay * s)).astype(np.complex64)
    return shifted
