"""Reads scenarios of DeepMIMO version 4 (deepmimo.net) as path tables. The format is read; its package is not needed.

A scenario is a folder with `params.json` and a file for each matrix, transmitter and set of receivers, such as
`power_t001_tx000_r000.npz` or `.mat`: transmitter 0 of set 1, to the receivers of set 0. The matrices are `rx_pos`
[n, 3] and `tx_pos` [1, 3] in metres, and of shape [n, paths] `power` in dB, `phase` in degrees, `delay` in seconds,
`aod_az`, `aod_el`, `aoa_az`, `aoa_el` in degrees, and `inter`. Entries without a path are NaN. Azimuths are
counter-clockwise from x, elevations from the zenith. `inter` writes the interactions from the transmitter on as digits,
0 for none: 1 reflection, 2 diffraction, 3 scattering, 4 transmission.

x counts as east and y as north. A path's gain at the carrier is sqrt(power) exp(j phase), as in the channels that
DeepMIMO makes. Those have the carrier at the first subcarrier; a cell has it in mid-band.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from models.errors import TrainerError
from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.siting import Site
from models.radio.survey import LABEL_SIGMA_M
from reference_db import Cell, Fingerprints
from reference_db.data_folder import hold_out, name_survey_files, write_survey_and_users
from reference_db.errors import BadHoldOut, ReferenceDatabaseError

PARAMETERS = "params.json"
_FILE = re.compile(r"rx_pos_t(\d{3,})_tx(\d{3,})_r(\d{3,})")
_PER_PATH = ("power", "phase", "delay", "aod_az", "aod_el", "aoa_az", "aoa_el", "inter")
_SUFFIXES = (".mat", ".npz", ".npy")
_UNREADABLE = (
    ValueError,
    TypeError,
    NotImplementedError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    MatReadError,
)
# DeepMIMO's digits as Sionna's InteractionType, which path tables have: specular, diffraction, diffuse, refraction.
_INTERACTIONS = np.array([0, 1, 8, 2, 4], np.uint8)


class FileIsThere(TrainerError, FileExistsError):
    """A file would be overwritten."""


class NotDeepMimo(TrainerError):
    """A folder does not have the layout that `models.radio.deepmimo` describes."""


@dataclass(frozen=True)
class Link:
    """A transmitter and a set of receivers, by their numbers in the names of files."""

    transmitter_set: int
    transmitter: int
    receiver_set: int

    @property
    def code(self) -> str:
        return f"t{self.transmitter_set:03}_tx{self.transmitter:03}_r{self.receiver_set:03}"


def find_links(folder: Path) -> list[Link]:
    """The links of a scenario, those to the most receivers first. Raises `NotDeepMimo`."""
    found = {match for path in folder.glob("rx_pos_*") if (match := _FILE.fullmatch(path.stem))}
    links = [Link(*map(int, match.groups())) for match in found]
    if not links:
        dynamic = any(folder.glob("*/rx_pos_*"))
        what = "it has several scenes; name the folder of one" if dynamic else "it has no file rx_pos_tNNN_txNNN_rNNN"
        raise NotDeepMimo(f"{folder} is no scenario of DeepMIMO 4: {what}")
    receivers = {link: len(_load(folder, "rx_pos", link)) for link in links}
    return sorted(links, key=lambda link: (-receivers[link], link.code))


def choose_link(folder: Path, transmitter: str | None) -> Link:
    """The link with the most receivers, of all or of a transmitter such as `1:0`. Raises `NotDeepMimo`."""
    links = find_links(folder)
    named = [link for link in links if transmitter in (None, f"{link.transmitter_set}:{link.transmitter}")]
    if not named:
        known = ", ".join(dict.fromkeys(f"{link.transmitter_set}:{link.transmitter}" for link in links))
        raise NotDeepMimo(f"{folder} has no transmitter {transmitter}; there are {known}")
    return named[0]


def read_scenario(folder: Path, link: Link, yaw: float | None, users: int | None, seed: int) -> PathTable:
    """The paths of one link. `yaw` (radians): of the array, by default towards the middle of the receivers.

    With `users`, as many of the receivers that paths reach, drawn at random. Raises `NotDeepMimo`.
    """
    carrier = _read_carrier(folder)
    bs = _load(folder, "tx_pos", link).reshape(-1)
    positions = _load(folder, "rx_pos", link)
    if bs.shape != (3,) or positions.ndim != 2 or positions.shape[1] != 3:
        raise NotDeepMimo(
            f"{folder}: tx_pos is {list(bs.shape)} and rx_pos {list(positions.shape)}, expected [3] and [n, 3]"
        )
    matrices = {name: _load(folder, name, link) for name in _PER_PATH}
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or matrix.shape != (len(positions), matrices["power"].shape[1]):
            expected = [len(positions), *matrices["power"].shape[1:]]
            raise NotDeepMimo(f"{folder}: {name} is {list(matrix.shape)}, expected {expected}")
    reached = np.flatnonzero(np.isfinite(matrices["power"]).any(axis=1))
    if not len(reached):
        raise NotDeepMimo(f"{folder}: no path reaches a receiver of {link.code}")
    if users is not None and users < len(reached):
        reached = np.sort(np.random.default_rng(seed).choice(reached, users, replace=False))
    return _table(folder.name, link, bs, positions[reached], {k: v[reached] for k, v in matrices.items()}, carrier, yaw)


def write_scenario(
    table: PathTable,
    radio: Radio,
    cell_id: str | None,
    point: tuple[float, float],
    held_out: float,
    same_location: float,
    seed: int,
    folder: Path,
    force: bool = False,
) -> list[Path]:
    """Writes the users of a scenario as a survey, and as users a share `held_out` of their locations.

    `point`: latitude and longitude of the base station, degrees. Raises `NotDeepMimo`, and `FileIsThere` unless
    ``force`` overwrites files.
    """
    site = table.site
    try:
        cell = Cell(
            cell_id=site.name if cell_id is None else cell_id,
            latitude_deg=point[0],
            longitude_deg=point[1],
            height=site.bs_height_above_ground,
            yaw=site.yaw,
            array=radio.array,
            carrier_frequency=site.carrier_frequency,
            bandwidth=radio.bandwidth,
            subcarriers=radio.subcarriers,
            survey_sto=0.0,
        )
        for file in name_survey_files(folder, cell):
            if file.exists() and not force:
                raise FileIsThere(f"{file} is there already; --force overwrites it")
        fingerprints = Fingerprints(
            csi=synthesise(table, radio, site.yaw),
            positions=table.users[:, :2],
            times=np.zeros(len(table.users)),
            sigmas=np.full(len(table.users), LABEL_SIGMA_M, np.float32),
        )
        held = hold_out(fingerprints, "location", held_out, same_location, seed)
        return write_survey_and_users(folder, cell, fingerprints, held)
    except BadHoldOut as error:
        raise NotDeepMimo(f"{site.city}: {error}; set --same-location below the distance of its receivers") from error
    except ReferenceDatabaseError as error:
        raise NotDeepMimo(f"{site.city}: {error}") from error


def _table(
    name: str,
    link: Link,
    bs: NDArray[np.float64],
    positions: NDArray[np.float64],
    matrices: dict[str, NDArray[np.float64]],
    carrier: float,
    yaw: float | None,
) -> PathTable:
    there = np.isfinite(matrices["power"])
    path = {key: matrix[there] for key, matrix in matrices.items()}
    if not all(np.isfinite(values).all() for values in path.values()):
        raise NotDeepMimo(f"{name}: a path has a power, but another of its numbers is missing")
    low, high = positions[:, :2].min(axis=0), positions[:, :2].max(axis=0)
    middle = (low + high) / 2
    if yaw is None:
        yaw = float(np.arctan2(*(middle - bs[:2])[::-1]))
    x, y, z = bs.tolist()
    site = Site(
        city=re.sub(r"[^A-Za-z0-9._-]", "_", name),
        seed=link.transmitter,
        bs=(x, y, z),
        bs_height_above_ground=max(z, 0.0),
        yaw=yaw,
        area_centre=(float(middle[0]), float(middle[1])),
        area_side=float((high - low).max()),
        carrier_frequency=carrier,
    )
    amplitude = 10 ** (path["power"] / 20)
    departure, arrival = (
        np.radians(np.stack([path[f"{end}_el"], path[f"{end}_az"]], axis=1)) for end in ("aod", "aoa")
    )
    return PathTable(
        site=site,
        users=(positions - bs).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64),
        gain=(amplitude * np.exp(1j * np.radians(path["phase"]))).astype(np.complex64),
        delay=path["delay"].astype(np.float32),
        departure=departure.astype(np.float32),
        arrival=arrival.astype(np.float32),
        interactions=_read_interactions(path["inter"], name),
    )


def _read_interactions(codes: NDArray[np.float64], name: str) -> NDArray[np.uint8]:
    """[paths, depth] from numbers such as 21: a diffraction, then a reflection."""
    digits = [str(code) for code in codes.astype(np.int64).tolist()]
    depth = max(map(len, digits))
    padded = np.array([list(map(int, one.ljust(depth, "0"))) for one in digits if one.isdigit()])
    if len(padded) != len(digits) or padded.max() >= len(_INTERACTIONS):
        raise NotDeepMimo(f"{name}: inter has codes other than the digits 0 to {len(_INTERACTIONS) - 1}")
    interactions: NDArray[np.uint8] = _INTERACTIONS[padded]
    return interactions


def _read_carrier(folder: Path) -> float:
    path = folder / PARAMETERS
    if not path.is_file():
        path = folder.parent / PARAMETERS  # of a scenario with several scenes
    try:
        return float(json.loads(path.read_bytes())["rt_params"]["frequency"])
    except FileNotFoundError as error:
        old = " (params.mat is of version 3 or older)" if (folder / "params.mat").exists() else ""
        raise NotDeepMimo(f"{folder} has no {PARAMETERS}, so it is no scenario of DeepMIMO 4{old}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotDeepMimo(f"{path} does not have the number rt_params.frequency, in hertz") from error


def _load(folder: Path, name: str, link: Link) -> NDArray[np.float64]:
    """A matrix of numbers. Raises `NotDeepMimo`."""
    stem = f"{name}_{link.code}"
    path = next((folder / f"{stem}{suffix}" for suffix in _SUFFIXES if (folder / f"{stem}{suffix}").is_file()), None)
    if path is None:
        raise NotDeepMimo(f"{folder} has no file {stem}.npz or .mat")
    try:
        return np.asarray(_read_matrix(path, name), np.float64)
    except KeyError as error:
        raise NotDeepMimo(f"{path} has no matrix {name}") from error
    except _UNREADABLE as error:
        raise NotDeepMimo(f"{path} cannot be read, it may be cut off: {error}") from error


def _read_matrix(path: Path, name: str) -> NDArray[Any]:
    matrix: NDArray[Any]
    if path.suffix == ".mat":
        matrix = loadmat(path)[name]
    elif path.suffix == ".npy":
        matrix = np.load(path, allow_pickle=False)
    else:
        with path.open("rb") as file:  # NumPy does not close a file that is no archive
            matrix = np.load(file, allow_pickle=False)[name]
    return matrix
