"""Base stations of the tiny artifact that measures snapshots, and users in plain sight of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from reference_db import AntennaArray, Cell, Store, replace_cell
from reference_db.path_features import SPEED_OF_LIGHT, USER_HEIGHT
from service.settings import Settings
from tests.service.tiny_artifact import only, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact

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


def create_cells(store: Store, *cells: Cell) -> None:
    """Publishes cells without fingerprints."""
    for cell in cells:
        made = replace_cell(None, cell, None, ORIGIN)
        store.publish(made.manifest, made.segments, None)


def write_measuring_artifacts(folder: Path) -> Settings:
    """A service with a network that compares with fingerprints and one that measures; its database does not exist yet.

    There is no network for trajectories.
    """
    (folder / "mateformer").mkdir(parents=True)
    write_tiny_artifact(folder / "mateformer", radios=only(ANTENNAS, SUBCARRIERS))
    write_tiny_lwlm_artifact(folder / "lwlm")
    return Settings(
        port=0,
        database_directory=folder / "database",
        artifact_directory=folder / "mateformer",
        trajectory_artifact_directory=None,
        lwlm_artifact_directory=folder / "lwlm",
        inference_threads=1,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        follow_period_s=0.2,
    )
