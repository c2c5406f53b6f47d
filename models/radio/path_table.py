"""Path tables: the ray-traced paths between one base station and its users, independent of array and subcarriers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models.radio.siting import Site

GAINS = {"gain", "horizontal_gain"}  # complex, stored as real pairs
PER_PATH = ("gain", "delay", "departure", "arrival", "interactions")


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
        """Raises `FileNotFoundError`, which names the command that makes a path table."""
        if not path.exists():
            raise FileNotFoundError(
                f"there is no path table {path}: trace the cell with `fingerpost-train scenes trace`"
            )
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            site = Site.from_json(json.loads(file.metadata()["site"]))
        for name in GAINS & tensors.keys():
            tensors[name] = np.ascontiguousarray(tensors[name]).view(np.complex64)[:, 0]
        return cls(site=site, **tensors)


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
