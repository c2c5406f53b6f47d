"""The links between the users and the base stations of traced streets, observed by any radio configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.radio.first_path import first_paths
from models.radio.path_table import PathTable
from models.radio.tracing import parse_cells, table_path

STRONGEST_PATHS = 48  # kept of each link; more than 99 % of links have fewer


class Truth(NamedTuple):
    """What the decoders estimate. The first path is the first that a receiver can detect."""

    range: Tensor  # [...] metres, length of the first path
    aoa: Tensor  # [...] radians off broadside, counter-clockwise, folded into the front half plane
    line_of_sight: Tensor  # [...] bool
    position: Tensor  # [..., 2] metres forward and left in the frame of the array


@dataclass(frozen=True)
class Links:
    """All links of ``u`` users with the ``n`` stations of their streets, with up to ``p`` paths each.

    The frame of a street has its origin at the first station, x east, y north.
    """

    street: Tensor  # [u] int64
    reached: Tensor  # [u, n] bool
    gain: Tensor  # [u, n, p] complex64, zero after the last path
    delay: Tensor  # [u, n, p] seconds
    direction: Tensor  # [u, n, p, 2] horizontal components (east, north) of the unit vector of departure
    yaw: Tensor  # [u, n] radians, counter-clockwise from east
    station: Tensor  # [u, n, 2] metres in the street's frame
    height: Tensor  # [u, n] metres of the BS antenna above the user
    user: Tensor  # [u, 2] metres in the street's frame
    first_range: Tensor  # [u, n] metres
    first_azimuth: Tensor  # [u, n] radians, counter-clockwise from east
    line_of_sight: Tensor  # [u, n] bool

    @property
    def users(self) -> int:
        return len(self.user)

    def observe(
        self,
        user: Tensor,
        station: Tensor,
        antennas: int,
        subcarriers: int,
        bandwidth: Tensor,
        turned: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Truth]:
        """Snapshots [b, antennas, subcarriers, 2], configurations [b, 2] and truth of links.

        ``user`` and ``station`` [b] choose the links, ``bandwidth`` [b] is in hertz. ``turned`` [b] turns the arrays
        further than their yaw, in radians.
        """
        at = user, station
        yaw = self.yaw[at] if turned is None else self.yaw[at] + turned
        along = torch.stack([-yaw.sin(), yaw.cos()], dim=-1)  # [b, 2] the direction in which columns count
        phase = math.pi * torch.einsum(
            "bpx,bx->bp", self.direction[at], along
        )  # half a wavelength from column to column
        column = torch.arange(antennas) - (antennas - 1) / 2
        subcarrier = torch.arange(subcarriers) - subcarriers // 2
        ramp = -2 * math.pi * self.delay[at] * (bandwidth / subcarriers)[:, None]  # [b, p] radians per subcarrier
        steering = torch.polar(torch.ones(()), phase[:, None] * column[:, None])  # [b, a, p]
        rotation = torch.polar(torch.ones(()), ramp[..., None] * subcarrier)  # [b, p, s]
        H = (self.gain[at][:, None] * steering) @ rotation  # [b, a, s]
        return (
            torch.view_as_real(H),
            torch.stack([bandwidth, self.height[at]], dim=-1),
            self.tell_truth(user, station, yaw),
        )

    def tell_truth(self, user: Tensor, station: Tensor, yaw: Tensor) -> Truth:
        at = user, station
        east, north = (self.user[user] - self.station[at]).unbind(-1)
        cos, sin = yaw.cos(), yaw.sin()
        return Truth(
            range=self.first_range[at],
            aoa=fold(self.first_azimuth[at] - yaw),
            line_of_sight=self.line_of_sight[at],
            position=torch.stack([cos * east + sin * north, cos * north - sin * east], dim=-1),
        )


def fold(angle: Tensor) -> Tensor:
    """Folds angles off broadside into the front half plane, where a linear array sees them."""
    return torch.asin(angle.sin())


def load_links(ranges: Iterable[str], stations: int, folder: Path) -> Links:
    """The links of streets such as ``munich:300-303``. Users that no station reaches stay out.

    Raises `FileNotFoundError` for a missing path table.
    """
    streets = []
    for number, (city, seed) in enumerate(parse_cells(ranges)):
        tables = [PathTable.load(table_path(folder, city, seed, station)) for station in range(stations)]
        streets.append(_read_street(number, tables))
    fields = {name: torch.cat([street[name] for street in streets]) for name in streets[0]}
    return Links(**fields)


def _read_street(number: int, tables: list[PathTable]) -> dict[str, Tensor]:
    origin = np.array(tables[0].site.bs)
    links = [_read_station(table, origin) for table in tables]
    fields = {name: torch.stack([link[name] for link in links], dim=1) for name in links[0]}
    fields["user"] = torch.from_numpy(tables[0].users[:, :2])
    fields["street"] = torch.full((len(fields["user"]),), number)
    anyone = fields["reached"].any(1)
    return {name: values[anyone] for name, values in fields.items()}


def _read_station(table: PathTable, origin: np.ndarray) -> dict[str, Tensor]:
    users = len(table.users)
    owner = np.repeat(np.arange(users), table.paths_per_user)
    order = np.lexsort([-np.abs(table.gain), owner])  # the strongest paths first
    slot = np.arange(len(owner)) - table.offsets[owner]
    kept = slot < STRONGEST_PATHS
    at = owner[kept], slot[kept]
    zenith, azimuth = table.departure[order].T.astype(np.float64)

    def scatter(values: np.ndarray) -> Tensor:
        padded = np.zeros((users, STRONGEST_PATHS, *values.shape[1:]), values.dtype)
        padded[at] = values[kept]
        return torch.from_numpy(padded)

    first = first_paths(table)
    horizontal = np.sin(zenith)[:, None] * np.column_stack([np.cos(azimuth), np.sin(azimuth)])
    return {
        "reached": torch.from_numpy(table.reached),
        "gain": scatter(table.gain[order]),
        "delay": scatter(table.delay[order]),
        "direction": scatter(horizontal.astype(np.float32)),
        "yaw": torch.full((users,), table.site.yaw),
        "station": torch.from_numpy((np.array(table.site.bs) - origin)[:2].astype(np.float32)).expand(users, 2),
        "height": torch.from_numpy(-table.users[:, 2]),
        "first_range": torch.from_numpy(np.nan_to_num(first.range).astype(np.float32)),
        "first_azimuth": torch.from_numpy(np.nan_to_num(first.azimuth).astype(np.float32)),
        "line_of_sight": torch.from_numpy(first.line_of_sight),
    }
