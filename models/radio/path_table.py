"""Path tables: the ray-traced paths between one base station and its users, independent of array and subcarriers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models.errors import TrainerError
from models.radio.siting import Site
from models.radio.walks import WALKS, WALKS_OF_A_CELL

_TABLE_NAME = re.compile(
    r"(?P<place>.+)-(?P<seed>\d{4,})(?:-(?P<station>\d+))?(?:-(?P<street>[a-z][a-z0-9-]*))?\.paths\.safetensors"
)
_BAND = re.compile(r"([\d.]+)GHz")

GAINS = {"gain", "horizontal_gain"}  # complex, stored as real pairs
PER_PATH = ("gain", "delay", "departure", "arrival", "interactions")


class PathTablesMissing(TrainerError, FileNotFoundError):
    """Cells were not traced. The message has the command that traces them."""


@dataclass(frozen=True)
class PathTable:
    """The paths of all users, user after user. The paths of user ``u`` are rows ``offsets[u]:offsets[u + 1]``.

    The slice of a user that no path reaches is empty.
    """

    site: Site
    users: NDArray[np.float32]  # [users, 3] metres, east-north-up from the BS antenna
    offsets: NDArray[np.int64]  # [users + 1]
    gain: NDArray[np.complex64]  # [paths] baseband-equivalent at the carrier: a·exp(-j2π·f_c·τ)
    delay: NDArray[np.float32]  # [paths] seconds, absolute
    departure: NDArray[np.float32]  # [paths, 2] zenith and azimuth at the BS, radians, scene axes
    arrival: NDArray[np.float32]  # [paths, 2] zenith and azimuth at the user
    interactions: NDArray[np.uint8]  # [paths, max_depth] Sionna's InteractionType, 0 after the end of the path
    horizontal_gain: NDArray[np.complex64] | None = None  # [paths] of a BS antenna with horizontal polarisation

    @property
    def paths_per_user(self) -> NDArray[np.int64]:
        """int64 [users]"""
        return np.diff(self.offsets)

    @property
    def reached(self) -> NDArray[np.bool_]:
        """bool [users]: at least one path reaches the user."""
        return self.paths_per_user > 0

    @property
    def line_of_sight(self) -> NDArray[np.bool_]:
        """bool [users]: one of the paths has no interaction."""
        direct = ~self.interactions.any(axis=1)
        counted = np.concatenate([[0], np.cumsum(direct)])
        return counted[self.offsets[1:]] > counted[self.offsets[:-1]]

    def save(self, path: Path) -> None:
        """Writes one safetensors file. Equal tables give equal bytes."""
        tensors = {"users": self.users, "offsets": self.offsets}
        tensors |= {name: getattr(self, name) for name in PER_PATH}
        if self.horizontal_gain is not None:
            tensors["horizontal_gain"] = self.horizontal_gain
        for name in GAINS & tensors.keys():
            tensors[name] = tensors[name].view(np.float32).reshape(-1, 2)
        tensors = {
            name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()
        }  # safetensors writes raw memory
        partial = path.with_suffix(".partial")
        partial.write_bytes(save(tensors, metadata={"site": json.dumps(self.site.to_json(), sort_keys=True)}))
        partial.rename(path)

    @classmethod
    def load(cls, path: Path) -> PathTable:
        """Raises `PathTablesMissing`, which names the command that makes a path table."""
        require_tables([path])
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            site = Site.from_json(json.loads(file.metadata()["site"]))
        for name in GAINS & tensors.keys():
            tensors[name] = np.ascontiguousarray(tensors[name]).view(np.complex64)[:, 0]
        return cls(site=site, **tensors)


def require_tables(paths: Iterable[Path]) -> None:
    """Raises `PathTablesMissing` unless all of these files are there."""
    missing = [path for path in paths if not path.exists()]
    if not missing:
        return
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    groups: dict[tuple[Path, str | None], list[re.Match[str]]] = {}
    for path in missing:
        if match := _TABLE_NAME.fullmatch(path.name):
            groups.setdefault((path.parent, match["street"]), []).append(match)
    commands = " && ".join(_trace_command(*group, found) for group, found in groups.items())
    advice = f"; trace them first: {commands}" if commands else ""
    raise PathTablesMissing(f"there is no path table {missing[0]}{more}{advice}")


def _trace_command(folder: Path, street: str | None, found: list[re.Match[str]]) -> str:
    """The command that makes the missing tables of a folder and a state of the streets."""
    seeds: dict[str, list[int]] = {}
    for match in found:
        seeds.setdefault(match["place"], []).append(int(match["seed"]))
    words = [f"{place}:{cells}" for place, ones in seeds.items() for cells in _ranges(sorted(set(ones)))]
    words += ["--out", str(folder)]
    if band := _BAND.fullmatch(folder.name):
        words += ["--carrier-ghz", band[1]]
    if stations := max((int(match["station"] or 0) for match in found), default=0):
        words += ["--stations", str(stations + 1)]
    if street == WALKS:
        words += ["--walks", str(WALKS_OF_A_CELL)]
    elif street:
        words += ["--street", street]
    return shlex.join(["fingerpost-train", "scenes", "trace", *words])


def _ranges(seeds: list[int]) -> list[str]:
    """Runs of numbers as the command takes them: ``0-7`` or ``3``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


def take_users(table: PathTable, first: int, last: int) -> PathTable:
    """The users from number ``first`` to before ``last``."""
    paths = slice(table.offsets[first], table.offsets[last])
    horizontal = table.horizontal_gain
    return PathTable(
        site=table.site,
        users=table.users[first:last],
        offsets=table.offsets[first : last + 1] - table.offsets[first],
        **{name: getattr(table, name)[paths] for name in PER_PATH},
        horizontal_gain=None if horizontal is None else horizontal[paths],
    )


def concatenate(tables: list[PathTable]) -> PathTable:
    """Joins the tables of disjoint users of one site, in order."""
    depth = max(table.interactions.shape[1] for table in tables)
    widened = [np.pad(t.interactions, ((0, 0), (0, depth - t.interactions.shape[1]))) for t in tables]
    counts = np.concatenate([table.paths_per_user for table in tables])
    horizontal = [table.horizontal_gain for table in tables if table.horizontal_gain is not None]
    return PathTable(
        site=tables[0].site,
        users=np.concatenate([table.users for table in tables]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        gain=np.concatenate([table.gain for table in tables]),
        delay=np.concatenate([table.delay for table in tables]),
        departure=np.concatenate([table.departure for table in tables]),
        arrival=np.concatenate([table.arrival for table in tables]),
        interactions=np.concatenate(widened),
        horizontal_gain=np.concatenate(horizontal) if len(horizontal) == len(tables) else None,
    )
