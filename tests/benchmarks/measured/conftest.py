"""A small file in the layout of the data set: two corridors whose channels and null subcarriers tell the place."""

from pathlib import Path

import numpy as np
import pytest

SUBCARRIERS, NULL_WORD = 64, 9000
SURVEYED, REPEATED, TESTED, ASKED = (
    30,
    10,
    5,
    3,
)  # points of a survey, snapshots of each; test points, snapshots of each
STEP_M, BESIDE_M = 0.6, 0.2  # between surveyed points; from a surveyed point to a test point


def measure_at(x: float, rng: np.random.Generator) -> np.ndarray:
    """Two paths whose delays differ more, the farther along the corridor. Null subcarriers hold a word of their own."""
    number = np.arange(SUBCARRIERS) - SUBCARRIERS // 2
    csi = 300 * np.exp(2j * np.pi * rng.random()) * (1 + 0.8 * np.exp(-2j * np.pi * number * x / 400))
    csi += 3 * (rng.normal(size=SUBCARRIERS) + 1j * rng.normal(size=SUBCARRIERS))
    null = (np.abs(number) > 28) | (number == 0)
    csi[null] = NULL_WORD * np.exp(1j * np.arange(null.sum())) * (1 + np.cos(x / 8 + np.arange(null.sum()))) / 2
    return csi.astype(np.complex64)


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = []
    for path in (1, 2):
        for number in range(SURVEYED):
            rows += [(path, 100 * path + number, STEP_M * number, False)] * REPEATED
        for number in range(TESTED):
            rows += [(path, 100 * path + 50 + number, STEP_M * (4 * number + 2) + BESIDE_M, True)] * ASKED
    paths, points, along, test = (np.array(column) for column in zip(*rows, strict=True))
    # The test points were captured right after the surveyed points beside them.
    times = 1.6e9 + 600 * np.floor(along / STEP_M + 1e-6) + 60 * test + rng.random(len(rows))
    return {
        "csi": np.stack([measure_at(x, rng) for x in along]),
        "positions": np.stack([along + 20, 10.0 * paths], axis=1).astype(np.float32),
        "path": paths.astype(np.int8),
        "location": points.astype(np.int16),
        "times": times,
        "test": test,
        "rssi": np.full(len(rows), 17, np.int8),
    }


@pytest.fixture(scope="session")
def file(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "corridors.npz"
    np.savez(path, **arrays)
    return path
