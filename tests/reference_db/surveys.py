"""Made-up surveys of honest radios: specular reflections at the walls of a room or street, and scatterers."""

import numpy as np
from numpy.typing import NDArray

from reference_db import AntennaArray, Cell, Fingerprints
from reference_db.path_features import SPEED_OF_LIGHT

Floats = NDArray[np.float64]


def make_cell(
    rows: int = 1, columns: int = 32, subcarriers: int = 32, bandwidth: float = 40e6, yaw: float = 0.3
) -> Cell:
    return Cell(
        cell_id="made-up",
        latitude_deg=48.0,
        longitude_deg=11.0,
        height=6.0,
        yaw=yaw,
        array=AntennaArray(rows=rows, columns=columns),
        carrier_frequency=3.5e9,
        bandwidth=bandwidth,
        subcarriers=subcarriers,
    )


def make_survey(
    cell: Cell,
    positions: Floats,
    walls: tuple[float, float, float, float],
    seed: int = 0,
    *,
    sight: bool = True,
    clock_s: float = 0.0,
    noise_db: float = -20.0,
) -> Fingerprints:
    """Users at `[n, 2]` metres between walls in the west, south, east and north.

    Without `sight` the direct path is blocked. `clock_s` is the spread of the sampling-time offsets. Phases are random,
    as without a common oscillator.
    """
    random = np.random.default_rng(seed)
    n = len(positions)
    images = [(positions, 1.0)] if sight else []
    west, south, east, north = walls
    for axis, wall in ((0, west), (1, south), (0, east), (1, north)):
        mirrored = positions.copy()
        mirrored[:, axis] = 2 * wall - mirrored[:, axis]
        images.append((mirrored, random.uniform(0.3, 0.7)))
    scatterers = random.uniform((west, south), (east, north), (4, 2))
    paths = [(np.hypot(*image.T), np.arctan2(image[:, 1], image[:, 0]), gain, image) for image, gain in images]
    for place in scatterers:
        length = np.hypot(*(positions - place).T) + np.hypot(*place)
        paths.append((length, np.full(n, np.arctan2(place[1], place[0])), random.uniform(0.1, 0.3), positions))
    rows, columns = cell.array.rows, cell.array.columns
    row, column = np.divmod(np.arange(rows * columns), columns)
    frequencies = (np.arange(cell.subcarriers) - cell.subcarriers // 2) * cell.bandwidth / cell.subcarriers
    down = cell.height - 1.5
    csi = np.zeros((n, cell.antennas, cell.subcarriers), complex)
    for ground, azimuth, gain, _ in paths:
        length = np.hypot(ground, down)
        level = ground / length
        turns = cell.array.spacing * (
            np.outer(level * np.sin(azimuth - cell.yaw), column) - np.outer(down / length, row)
        )
        delays = length / SPEED_OF_LIGHT
        wave = gain / length * np.exp(-2j * np.pi * delays * cell.carrier_frequency)
        csi += (
            wave[:, None, None]
            * np.exp(2j * np.pi * turns)[:, :, None]
            * np.exp(-2j * np.pi * np.outer(delays, frequencies))[:, None, :]
        )
    offsets = clock_s * random.standard_normal(n)
    csi *= np.exp(-2j * np.pi * np.outer(offsets, frequencies))[:, None, :]
    csi *= np.exp(2j * np.pi * random.random(n))[:, None, None]
    level = np.sqrt((np.abs(csi) ** 2).mean(axis=(1, 2), keepdims=True)) * 10 ** (noise_db / 20) / np.sqrt(2)
    csi += level * (random.standard_normal(csi.shape) + 1j * random.standard_normal(csi.shape))
    labels = np.zeros(n), np.full(n, 0.05, np.float32)
    return Fingerprints(csi.astype(np.complex64), positions.astype(np.float32), *labels)


def in_a_rectangle(n: int, west: float, south: float, east: float, north: float, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform((west, south), (east, north), (n, 2))
