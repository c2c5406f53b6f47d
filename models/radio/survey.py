"""Survey files of a traced cell: fingerprints that an operator imports, and users or walks to locate with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.channel import synthesise
from models.radio.first_path import first_paths
from models.radio.front_end import Radio
from models.radio.impairments import Impairments, impair
from models.radio.path_table import PathTable
from models.radio.siting import Site
from models.radio.walks import SNAPSHOTS
from reference_db import Cell, Fingerprints, LocalFrame, write_fingerprint_file
from reference_db.cell import AntennaArray

# Coordinates of each scene's origin: the landmark in its centre, accurate to a few hundred metres.
ORIGINS_DEG = {
    "munich": (48.1374, 11.5755),
    "etoile": (48.8738, 2.2950),
    "florence": (43.7731, 11.2560),
    "san_francisco": (37.8024, -122.4058),
}
LABEL_SIGMA_M = 0.02  # RTK
STATION_RADIO = Impairments(snr_db=20.0, phase=True)
SAME_PLACE_M = 0.01  # path tables hold float32 metres from the BS


class TooFewReached(TrainerError):
    """Paths reach fewer users of the cell than requested."""


class DifferentUsers(TrainerError):
    """Path tables are not of the same users, so they are no stations of one street."""


def describe_cell(site: Site, array: AntennaArray, subcarriers: int, bandwidth: float) -> Cell:
    """The description of the cell for the reference database."""
    latitude, longitude = LocalFrame(*ORIGINS_DEG[site.city]).to_wgs84(*site.bs[:2])
    return Cell(
        cell_id=site.name,
        latitude_deg=latitude,
        longitude_deg=longitude,
        height=site.bs_height_above_ground,
        yaw=site.yaw,
        array=array,
        carrier_frequency=site.carrier_frequency,
        bandwidth=bandwidth,
        subcarriers=subcarriers,
    )


def write_survey(
    table: PathTable,
    radio: Radio,
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
    csi = synthesise(table, radio, table.site.yaw)
    cell = describe_cell(table.site, radio.array, radio.subcarriers, radio.bandwidth)
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


def write_walks(table: PathTable, radio: Radio, walks: int, snapshots: int, measured_at: float, folder: Path) -> Path:
    """Writes the first ``snapshots`` of the first ``walks`` walks that are reached at each, those of one after another.

    ``table`` is of walks. Snapshots are a second apart from ``measured_at``, in Unix seconds, on. Returns the file,
    ``<cell id>-walks.safetensors``. Raises `TooFewReached`.
    """
    places = np.arange(len(table.users)).reshape(-1, SNAPSHOTS)[:, :snapshots]
    whole = places[table.reached[places].all(axis=1)]
    if len(whole) < walks:
        raise TooFewReached(f"{table.site.name}: {len(whole)} walks are reached throughout, but {walks} were asked for")
    rows = whole[:walks].ravel()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.site.name}-walks.safetensors"
    fingerprints = Fingerprints(
        csi=synthesise(table, radio, table.site.yaw)[rows],
        positions=table.users[rows, :2],
        times=measured_at + np.tile(np.arange(float(snapshots)), walks),
        sigmas=np.full(len(rows), LABEL_SIGMA_M, np.float32),
    )
    write_fingerprint_file(
        path, describe_cell(table.site, radio.array, radio.subcarriers, radio.bandwidth), fingerprints
    )
    return path


def write_station_snapshots(
    tables: Sequence[PathTable], radio: Radio, users: int, measured_at: float, folder: Path
) -> list[Path]:
    """Writes what the stations of one street measure of its first ``users`` users that every station reaches.

    One fingerprint file a station, ``<cell id>-stations.safetensors``, with the same users row by row and positions
    relative to that station. The snapshots have 20 dB of receiver noise and a random phase. Beside each file,
    ``<cell id>-first-paths.npy`` has the truth about the users' first paths, float64 `[users, 3]`: length in metres,
    azimuth at the station in radians counter-clockwise from east, and 1 where the path is the direct one, else 0.
    ``measured_at`` is Unix seconds. Returns the fingerprint files. Raises `DifferentUsers` or `TooFewReached`.
    """
    first = tables[0]
    places = [table.users[:, :2] + np.array(table.site.bs[:2]) for table in tables]
    for table, place in zip(tables, places, strict=True):
        if place.shape != places[0].shape or np.abs(place - places[0]).max() > SAME_PLACE_M:
            raise DifferentUsers(f"{table.site.name} and {first.site.name} were traced to different users")
    rows = np.flatnonzero(np.all([table.reached for table in tables], axis=0))[:users]
    if len(rows) < users:
        raise TooFewReached(f"{first.site.name}: all stations reach {len(rows)} users, but {users} were asked for")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        site = table.site
        clean = synthesise(table, radio, site.yaw)[rows]
        generator = torch.Generator().manual_seed(1000 * site.seed + site.station)
        csi = impair(torch.from_numpy(clean), STATION_RADIO, radio.bandwidth, generator).numpy()
        fingerprints = Fingerprints(
            csi=csi,
            positions=table.users[rows, :2],
            times=np.full(len(rows), measured_at),
            sigmas=np.full(len(rows), LABEL_SIGMA_M, np.float32),
        )
        cell = describe_cell(site, radio.array, radio.subcarriers, radio.bandwidth)
        paths.append(folder / f"{site.name}-stations.safetensors")
        write_fingerprint_file(paths[-1], cell, fingerprints)
        truth = first_paths(table)
        columns = (truth.range, truth.azimuth, truth.line_of_sight.astype(np.float64))
        np.save(folder / f"{site.name}-first-paths.npy", np.stack(columns, axis=1)[rows])
    return paths
