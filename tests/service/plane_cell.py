"""A made-up cell: a line of sight and three scatterers before a linear array."""

from typing import Any

import numpy as np

from reference_db import AntennaArray, Cell, Fingerprints

Json = dict[str, Any]

SCATTERERS = np.array([[40.0, 35.0], [75.0, -40.0], [95.0, 20.0]])
USER = np.array([[50.0, 5.0]], np.float32)


def make_cell(cell_id: str, antennas: int = 32, spacing: float = 0.5) -> Cell:
    return Cell(
        cell_id=cell_id,
        latitude_deg=43.7731,
        longitude_deg=11.2560,
        height=12.0,
        yaw=0.3,
        array=AntennaArray(rows=1, columns=antennas, spacing=spacing),
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=32,
    )


def users_at(positions: np.ndarray, antennas: int = 32, scatterers: np.ndarray = SCATTERERS) -> np.ndarray:
    """Line of sight and scatterers `[s, 2]`: complex64 `[n, antennas, 32]`."""
    channel = np.zeros((len(positions), antennas, 32), complex)
    sight = (np.hypot(*positions.T), np.arctan2(positions[:, 1], positions[:, 0]), 1.0)
    bounces = [
        (np.hypot(*(positions - place).T) + np.hypot(*place), np.arctan2(place[1], place[0]), 0.5)
        for place in scatterers
    ]
    for length, angle, gain in (sight, *bounces):
        array = np.exp(1j * np.pi * np.sin(angle)[..., None] * np.arange(antennas))
        band = np.exp(-2j * np.pi * length[:, None] / 3e8 * np.arange(32) * 1.25e6)
        carrier = 1e-4 * gain / length * np.exp(-2j * np.pi * length * 3.5e9 / 3e8)
        channel += carrier[:, None, None] * (array[..., :, None] * band[:, None, :])
    return channel.astype(np.complex64)


def street(n: int, seed: int) -> np.ndarray:
    """Positions in a 40 m x 40 m area east of the base station, float32 `[n, 2]`."""
    return np.random.default_rng(seed).uniform((30, -20), (70, 20), (n, 2)).astype(np.float32)


def fingerprints_at(positions: np.ndarray, antennas: int = 32) -> Fingerprints:
    n = len(positions)
    csi = users_at(positions, antennas)
    return Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))
