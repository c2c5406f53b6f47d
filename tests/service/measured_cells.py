"""Base stations of the tiny artifact that measures snapshots, and users in plain sight of them."""

import math
from typing import Any

import numpy as np

from reference_db import AntennaArray, Cell
from reference_db.path_features import SPEED_OF_LIGHT, USER_HEIGHT

ANTENNAS, SUBCARRIERS = 8, 16


def measured_cell(cell_id: str = "bare", *, yaw_deg: float = 0.0, **fields: Any) -> Cell:
    """A base station as high as its users, with a channel that the artifact was made for."""
    columns, spacing = fields.pop("columns", ANTENNAS), fields.pop("spacing", 0.5)
    described = {
        "cell_id": cell_id,
        "latitude_deg": 43.7731,
        "longitude_deg": 11.2560,
        "height": USER_HEIGHT,
        "yaw": math.radians(yaw_deg),
        "array": AntennaArray(rows=fields.pop("rows", 1), columns=columns, spacing=spacing),
        "carrier_frequency": 3.5e9,
        "bandwidth": 40e6,
        "subcarriers": SUBCARRIERS,
    }
    return Cell(**(described | fields))


def heard_from(cell: Cell, east: float, north: float, delay: float = 0.0) -> np.ndarray:
    """CSI complex64 `[antennas, subcarriers]` of a user there, by one path and from so far that its wave is plane.

    `delay`: seconds that the clocks differ by. The first number is positive.
    """
    away = math.hypot(east, north)
    length = math.hypot(away, cell.height - USER_HEIGHT)
    sine = math.sin(math.atan2(north, east) - cell.yaw) * away / length
    array = np.exp(2j * np.pi * cell.array.spacing * sine * np.arange(cell.antennas))
    frequencies = np.arange(cell.subcarriers) * cell.bandwidth / cell.subcarriers
    band = np.exp(-2j * np.pi * frequencies * (length / SPEED_OF_LIGHT + delay))
    return (1e-3 / length * array[:, None] * band).astype(np.complex64)
