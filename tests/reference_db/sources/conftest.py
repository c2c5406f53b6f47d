import numpy as np
import pytest

from reference_db import AntennaArray, Cell

N, ANTENNAS = 6, 4


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def positions(random: np.random.Generator) -> np.ndarray:
    """float64 [N, 3]"""
    return random.uniform(-20, 20, (N, 3))


def describe(antennas: int, subcarriers: int) -> Cell:
    return Cell(
        cell_id="published",
        latitude_deg=48.0,
        longitude_deg=9.0,
        height=2.0,
        yaw=0.0,
        array=AntennaArray(rows=1, columns=antennas),
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=subcarriers,
    )
