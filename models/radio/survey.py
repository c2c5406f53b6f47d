"""Survey files of a traced cell: fingerprints that an operator imports, and users to locate with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.channel import synthesise
from models.radio.path_table import PathTable
from models.radio.siting import Site
from reference_db import Cell, Fingerprints, write_fingerprint_file
from reference_db.cell import AntennaArray

# Coordinates of each scene's origin: the landmark in its centre, accurate to a few hundred metres.
ORIGINS_DEG = {
    "munich": (48.1374, 11.5755),
    "etoile": (48.8738, 2.2950),
    "florence": (43.7731, 11.2560),
    "san_francisco": (37.8024, -122.4058),
}
METRES_PER_DEGREE = 111_320.0
LABEL_SIGMA_M = 0.02  # RTK


class TooFewReached(TrainerError):
    """Paths reach fewer users of the cell than requested."""


def describe_cell(site: Site, array: AntennaArray, subcarriers: int, bandwidth: float) -> Cell:
    """The description of the cell for the reference database."""
    latitude, longitude = ORIGINS_DEG[site.city]
    return Cell(
        cell_id=site.name,
        latitude_deg=latitude + site.bs[1] / METRES_PER_DEGREE,
        longitude_deg=longitude + site.bs[0] / (METRES_PER_DEGREE * np.cos(np.radians(latitude))),
        height=site.bs_height_above_ground,
        yaw=site.yaw,
        array=array,
        carrier_frequency=site.carrier_frequency,
        bandwidth=bandwidth,
        subcarriers=subcarriers,
    )


def write_survey(
    table: PathTable,
    array: AntennaArray,
    subcarriers: int,
    bandwidth: float,
    references: int,
    users: int,
    measured_at: float,
    folder: Path,
) -> tuple[Path, Path]:
    """Writes the first ``references`` reached users as fingerprints and the next ``users`` as users to locate.

    ``measured_at`` is Unix seconds. Returns both files. Raises `TooFewReached`.
    """
    reached = np.flatnonzero(table.reached)
    if len(reached) < references + users:
        raise TooFewReached(
            f"{table.site.name}: {len(reached)} users are reached, but {references} + {users} were asked for"
        )
    csi = synthesise(table, array, table.site.yaw, subcarriers, bandwidth)
    cell = describe_cell(table.site, array, subcarriers, bandwidth)
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, rows: NDArray[np.int64]) -> Path:
        path = folder / f"{table.site.name}-{name}.safetensors"
        fingerprints = Fingerprints(
            csi=csi[rows],
            positions=table.users[rows, :2],
            times=np.full(len(rows), measured_at),
            sigmas=np.full(len(rows), LABEL_SIGMA_M, np.float32),
        )
        write_fingerprint_file(path, cell, fingerprints)
        return path

    return write("references", reached[:references]), write("users", reached[references : references + users])
