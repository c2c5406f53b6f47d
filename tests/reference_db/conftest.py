from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reference_db import AntennaArray, Cell, DirectoryStore, Fingerprints

MakeFingerprints = Callable[..., Fingerprints]


@pytest.fixture(scope="session")
def cell() -> Cell:
    return Cell(
        cell_id="florence-1",
        latitude_deg=43.7731,
        longitude_deg=11.2560,
        height=12.0,
        yaw=0.5,
        array=AntennaArray(rows=1, columns=4),
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=6,
    )


@pytest.fixture(scope="session")
def make_fingerprints(cell: Cell) -> MakeFingerprints:
    def make(n: int = 12, seed: int = 0) -> Fingerprints:
        random = np.random.default_rng(seed)
        shape = (n, cell.antennas, cell.subcarriers)
        csi = 1e-6 * (random.normal(size=shape) + 1j * random.normal(size=shape))
        return Fingerprints(
            csi=csi.astype(np.complex64),
            positions=random.uniform(10, 70, (n, 2)).astype(np.float32),
            times=1.7e9 + random.uniform(0, 3600, n),
            sigmas=np.full(n, 0.05, np.float32),
        )

    return make


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")
