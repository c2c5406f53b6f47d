"""Traces whole cells into path tables: in chunks, resumable after a kill, split into shards."""

from __future__ import annotations

import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import TrainerError
from models.radio.city import CITIES, USERS_AT_ONCE, City
from models.radio.path_table import PathTable, concatenate
from models.radio.siting import NLOS_SUFFIX, Site, draw_further_station, draw_site, draw_users, site_name
from models.radio.street_changes import Street, draw_clear_users, furnish_street
from models.radio.walks import SNAPSHOTS, WALKS, draw_walks


class BadCellRange(TrainerError):
    """A cell range is not of the form ``city:first-last``, or names no cell."""


class OtherCarrier(TrainerError):
    """A path table is of another carrier than the one that is wanted."""


def parse_cells(ranges: Iterable[str]) -> list[tuple[str, int]]:
    """``["munich:0-2", "etoile-nlos:7"]`` names three sites of munich and one of etoile's second family of sites.

    Returns places and seeds. Raises `BadCellRange`.
    """
    cells = []
    for text in ranges:
        match = re.fullmatch(r"([\w-]+):(\d+)(?:-(\d+))?", text)
        if match is None or match[1].removesuffix(NLOS_SUFFIX) not in CITIES:
            raise BadCellRange(
                f"{text!r} is not of the form city:first-last or city{NLOS_SUFFIX}:first-last; the cities are"
                f" {', '.join(CITIES)}"
            )
        first, last = int(match[2]), int(match[3] or match[2])
        if last < first:
            raise BadCellRange(f"{text!r} names no cell: {last} comes before {first}")
        cells += [(match[1], seed) for seed in range(first, last + 1)]
    return cells


def shard_of(cells: list[tuple[str, int]], shard: str) -> list[tuple[str, int]]:
    """Every n-th cell, from the i-th on, for shard ``i/n`` (``0 <= i < n``). Raises `BadCellRange`."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or int(match[1]) >= int(match[2]):
        raise BadCellRange(f"{shard!r} is not i/n with i < n")
    return cells[int(match[1]) :: int(match[2])]


def table_path(folder: Path, place: str, seed: int, station: int = 0, street: Street | None = None) -> Path:
    name = site_name(place, seed, station) + (f"-{street}" if street else "")
    return folder / f"{name}.paths.safetensors"


def walks_path(folder: Path, place: str, seed: int) -> Path:
    """The path table of users who walk through a bare street."""
    return folder / f"{site_name(place, seed, station=0)}-{WALKS}.paths.safetensors"


def band_folder(folder: Path, carrier_frequency: float) -> Path:
    """The folder of the path tables of one of several carriers (hertz): ``2.6GHz`` and so on."""
    return folder / f"{carrier_frequency / 1e9:g}GHz"


def trace_cells(
    cells: list[tuple[str, int]],
    folder: Path,
    users: int,
    carrier_frequency: float,
    threads: int | None,
    stations: int = 1,
    street: Street | None = None,
    skipped: int = 0,
) -> Iterator[Path]:
    """Traces the missing cells into ``folder`` and yields every cell's file. A partly traced cell resumes; a table that
    is there stays, whatever its number of users.

    With several ``stations``, each street is traced from as many base stations, to the same users. ``street``: what
    stands in it, None for bare streets. ``skipped``: first users of each street to leave out.
    Raises `NoSiteFound`, `NoRoomInStreet` if a street cannot be in this state, or `OtherCarrier`.
    """

    def draw(city: City, site: Site) -> NDArray[np.float64]:
        drawn = skipped + users
        standing = draw_clear_users(city, site, drawn, street) if street else draw_users(city, site, drawn)
        return standing[skipped:]

    jobs = [
        _Job(place, seed, station, table_path(folder, place, seed, station, street))
        for (place, seed), station in product(cells, range(stations))
    ]
    yield from _trace_missing(jobs, users, draw, carrier_frequency, threads, street)


def trace_walks(
    cells: list[tuple[str, int]], folder: Path, walks: int, carrier_frequency: float, threads: int | None
) -> Iterator[Path]:
    """As `trace_cells`, to users who walk: the `SNAPSHOTS` places of one walk after those of another.

    Raises `NoSiteFound`, `NoRoomForWalks` and `OtherCarrier`.
    """

    def draw(city: City, site: Site) -> NDArray[np.float64]:
        return draw_walks(city, site, walks).reshape(-1, 3)

    jobs = [_Job(place, seed, 0, walks_path(folder, place, seed)) for place, seed in cells]
    yield from _trace_missing(jobs, walks * SNAPSHOTS, draw, carrier_frequency, threads, None)


class _Job(NamedTuple):
    place: str
    seed: int
    station: int
    path: Path


def _trace_missing(
    jobs: list[_Job],
    users: int,
    draw: Callable[[City, Site], NDArray[np.float64]],
    carrier_frequency: float,
    threads: int | None,
    street: Street | None,
) -> Iterator[Path]:
    """``draw`` gives the places of ``users`` users, float64 [users, 3] in scene metres."""
    city: City | None = None
    with tqdm(total=users * len(jobs), unit="user", smoothing=0.1) as progress:
        for name, seed, station, path in jobs:
            path.parent.mkdir(parents=True, exist_ok=True)
            progress.set_description(site_name(name, seed, station))
            if path.exists():
                _check_traced(path, users, carrier_frequency)
                progress.update(users)
            else:
                if city is None or city.name != name.removesuffix(NLOS_SUFFIX):
                    city = City(name.removesuffix(NLOS_SUFFIX), threads)
                site = draw_site(city, name, seed, carrier_frequency)
                if station:
                    site = draw_further_station(city, site, station)
                standing = draw(city, site)
                city.furnish(furnish_street(city, site, street) if street else [])
                for traced in _trace_cell(city, replace(site, street=str(street or "")), path, standing):
                    progress.update(traced)
                city.furnish([])
            yield path


def _check_traced(path: Path, users: int, carrier_frequency: float) -> None:
    """Says on standard error that a table has another number of users. Raises `OtherCarrier`."""
    table = PathTable.load(path)
    traced = table.site.carrier_frequency
    if not math.isclose(traced, carrier_frequency, rel_tol=1e-6):
        raise OtherCarrier(f"{path} is there already, at {traced / 1e9:g} GHz; state another --out")
    if len(table.users) != users:
        print(f"{path} is there already, with {len(table.users)} users; remove it to trace {users}", file=sys.stderr)


def _trace_cell(city: City, site: Site, path: Path, positions: NDArray[np.float64]) -> Iterator[int]:
    parts_folder = path.with_suffix(".parts")
    parts_folder.mkdir(exist_ok=True)
    parts = []
    for first in range(0, len(positions), USERS_AT_ONCE):
        part = parts_folder / f"{first:07d}.safetensors"
        chunk = positions[first : first + USERS_AT_ONCE]
        table = PathTable.load(part) if part.exists() else None
        # A part may come from an earlier run with other users or another carrier.
        if table is None or table.site != site or not _same_places(table, chunk):
            table = city.trace(site, chunk)
            table.save(part)
        parts.append(table)
        yield len(chunk)
    concatenate(parts).save(path)
    shutil.rmtree(parts_folder)


def _same_places(table: PathTable, users: NDArray[np.float64]) -> bool:
    return np.array_equal(table.users, (users - np.array(table.site.bs)).astype(np.float32))
