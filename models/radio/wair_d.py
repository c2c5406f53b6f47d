"""Reads folders of WAIR-D (Huangfu et al., arXiv 2212.02159), the data set of the SCADF-MoE paper, as path tables.

The layout follows the data set's own channel generator and the positioning code that was published with it:

- ``Info.npy``: numbers in one row, in half metres. First the width and height of the map. In ``scenario_1`` (5 base
  stations, 30 users), each link follows with the base station's x, y and the user's x, y, base station after base
  station. In ``scenario_2`` (1 base station, 10,000 users), the x, y of the base station and of every user follow. Base
  stations are at a height of 6 m, users at 1.5 m.
- ``Path.npy``: a pickled dict with keys ``bs0_ue0`` (in ``scenario_2`` ``bs0_ue00000``) and so on. Each link has
  ``taud`` [paths], delays in nanoseconds, and ``dod`` and ``doa`` [paths, 2], zenith and azimuth in radians at the base
  station and at the user, on the axes of the map. Path lengths are 0.3 m per nanosecond.
- ``H_2_6_G.npy``, ``H_6_0_G.npy``, ``H_28_0_G.npy`` and so on, one per carrier: a pickled dict with the same keys and
  complex gains [paths], without the carrier's phase exp(-j2π f τ).

The files do not mark the direct path. It is a path as long as the straight line, with opposite azimuths at its ends.
The interactions of the other paths are unknown.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.path_table import PathTable
from models.radio.siting import Site
from reference_db.path_features import SPEED_OF_LIGHT

UNIT_M = 0.5
HEIGHTS_M = (6.0, 1.5)  # of base stations and users
METRES_PER_NS = 0.3
CARRIERS_HZ = {2.6e9: "2_6", 6e9: "6_0", 28e9: "28_0", 60e9: "60_0", 100e9: "100_0"}
UNKNOWN_INTERACTION = 255

# The only names that a pickled dict of arrays needs. A pickle with any other name is refused.
NEEDED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("__builtin__", "bytes"),
}


class PickleRefused(TrainerError):
    """A file is a pickle that the caller did not allow, or a pickle of more than arrays."""


class NotWairD(TrainerError):
    """A folder does not have the layout that `models.radio.wair_d` describes."""


def read_environment(folder: Path, carrier_frequency: float, unpickle: bool = False) -> list[PathTable]:
    """The path tables of the base stations of one environment, e.g. ``scenario_1/00743``.

    ``unpickle`` must be true for the published files: they are dicts saved with NumPy as pickles, and a pickle can run
    code. Only the few names that arrays need are allowed, but pass true only for files that you trust.

    Raises `PickleRefused`, `NotWairD`, and `FileNotFoundError`.
    """
    if carrier_frequency not in CARRIERS_HZ:
        raise NotWairD(f"WAIR-D has no carrier of {carrier_frequency / 1e9:g} GHz")
    info = np.asarray(_load(folder / "Info.npy", unpickle), np.float64).ravel()
    paths = _links(folder / "Path.npy", unpickle)
    gains = _links(folder / f"H_{CARRIERS_HZ[carrier_frequency]}_G.npy", unpickle)
    if paths.keys() != gains.keys():
        raise NotWairD(f"{folder}: paths and gains have different links")
    base_stations, users = (1 + max(link[end] for link in paths) for end in (0, 1))
    bs, ue = _places(folder, info, base_stations, users)
    tables = []
    for number in range(base_stations):
        try:
            links = [(paths[number, user], gains[number, user]) for user in range(users)]
        except KeyError as missing:
            raise NotWairD(f"{folder}: no link of base station and user {missing}") from missing
        tables.append(_table(_site(folder.name, number, bs[number], ue, carrier_frequency), ue - bs[number], links))
    return tables


def _places(
    folder: Path, info: NDArray[np.float64], base_stations: int, users: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of base stations and of users, [n, 3] metres on the axes of the map."""
    if len(info) == 2 + 4 * base_stations * users:
        rows = info[2:].reshape(base_stations, users, 4)
        bs, ue = rows[:, 0, :2], rows[0, :, 2:]
    elif base_stations == 1 and len(info) == 4 + 2 * users:
        bs, ue = info[None, 2:4], info[4:].reshape(users, 2)
    else:
        raise NotWairD(f"{folder}: Info.npy has {len(info)} numbers, not those of {base_stations} x {users} links")
    return tuple(np.column_stack([xy * UNIT_M, np.full(len(xy), z)]) for xy, z in zip((bs, ue), HEIGHTS_M, strict=True))


def _site(
    environment: str, number: int, bs: NDArray[np.float64], ue: NDArray[np.float64], carrier_frequency: float
) -> Site:
    low, high = ue[:, :2].min(axis=0), ue[:, :2].max(axis=0)
    x, y, z = bs.tolist()
    centre_x, centre_y = ((low + high) / 2).tolist()
    return Site(
        city=f"wair_d_{environment}",
        seed=number,
        bs=(x, y, z),
        bs_height_above_ground=z,
        yaw=0.0,
        area_centre=(centre_x, centre_y),
        area_side=float((high - low).max()),
        carrier_frequency=carrier_frequency,
    )


def _table(site: Site, users: NDArray[np.float64], links: list[tuple[dict[str, Any], Any]]) -> PathTable:
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("ns", "gain", "departure", "arrival", "unknown")}
    for user, (path, gain) in zip(users, links, strict=True):
        ns, H = np.asarray(path["taud"], np.float64).ravel(), np.asarray(gain, np.complex128).ravel()
        departure, arrival = (np.asarray(path[name], np.float64).reshape(-1, 2) for name in ("dod", "doa"))
        if not len(ns) == len(H) == len(departure) == len(arrival):
            raise NotWairD(f"{site.city}: a link has {len(ns)} delays and {len(H)} gains")
        turn = np.exp(1j * (departure[:, 1] - arrival[:, 1]))
        straight = np.abs(ns * METRES_PER_NS - np.linalg.norm(user)) < 1e-3
        direct = straight & (np.abs(turn + 1) < 1e-4)
        values = (ns, H, departure, arrival, ~direct)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    ns = np.concatenate(columns["ns"])
    phase = np.exp(-2j * np.pi * ((site.carrier_frequency / 1e9 * ns) % 1.0))
    return PathTable(
        site=site,
        users=users.astype(np.float32),
        offsets=np.cumsum([0, *map(len, columns["ns"])]).astype(np.int64),
        gain=(np.concatenate(columns["gain"]) * phase).astype(np.complex64),
        delay=(ns * METRES_PER_NS / SPEED_OF_LIGHT).astype(np.float32),  # keeps the path lengths of the data set
        departure=np.concatenate(columns["departure"]).astype(np.float32),
        arrival=np.concatenate(columns["arrival"]).astype(np.float32),
        interactions=(UNKNOWN_INTERACTION * np.concatenate(columns["unknown"])[:, None]).astype(np.uint8),
    )


def _links(path: Path, unpickle: bool) -> dict[tuple[int, int], Any]:
    """The links by the numbers of base station and user."""
    content = _load(path, unpickle)
    links = content.item() if content.ndim == 0 else None
    if not isinstance(links, dict) or not links:
        raise NotWairD(f"{path} does not hold a dict of links")
    named = {re.fullmatch(r"bs(\d+)_ue(\d+)", str(name)): link for name, link in links.items()}
    if None in named:
        raise NotWairD(f"{path} has links with names other than bs<number>_ue<number>")
    return {(int(match[1]), int(match[2])): link for match, link in named.items() if match is not None}


def _load(path: Path, unpickle: bool) -> NDArray[Any]:
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version[0]](file)
        except (ValueError, KeyError) as error:
            raise NotWairD(f"{path} is not an array: {error}") from error
        if not dtype.hasobject:
            file.seek(0)
            return np.load(file, allow_pickle=False)
        if not unpickle:
            raise PickleRefused(f"{path} is a pickle, which can run code; pass unpickle only if you trust it")
        try:
            return np.reshape(_ArraysOnly(file).load(), shape)
        except (pickle.UnpicklingError, EOFError) as error:
            raise NotWairD(f"{path} is not an array: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote some of the files

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # the name before NumPy 2
        if (module, name) not in NEEDED:
            raise PickleRefused(f"the pickle uses {module}.{name}, which no array needs")
        return super().find_class(module, name)
