"""Users with known positions, whose links are the labelled snapshots that decoders learn from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.lwlm.data import Links, Truth
from models.lwlm.pretraining import add_noise
from models.lwlm.recipe import SnapshotConfigurations

SNR_DB = 20.0  # of labelled and of tested snapshots
BLOCK_M = 10.0  # side of the blocks of a street that are labelled or tested as a whole


class Snapshots(NamedTuple):
    """Snapshots of one shape: all ``n`` stations of ``b`` users."""

    csi: Tensor  # [b, n, a, s, 2]
    configuration: Tensor  # [b, n, 2] bandwidth in hertz, height in metres
    truth: Truth  # each [b, n, ...]
    reached: Tensor  # [b, n] bool
    yaw: Tensor  # [b, n] radians
    station: Tensor  # [b, n, 2] metres in the frame of the street
    user: Tensor  # [b, 2] metres in the frame of the street

    def take(self, rows: Tensor) -> Snapshots:
        truth = Truth(*(values[rows] for values in self.truth))
        return Snapshots(*(truth if values is self.truth else values[rows] for values in self))


@dataclass(frozen=True)
class LabelledUsers:
    """Users grouped by the shape of their snapshots. Every station of a user has a bandwidth of its own."""

    groups: list[Snapshots]

    @property
    def users(self) -> int:
        return sum(len(group.user) for group in self.groups)

    def draw(self, users: int, rng: np.random.Generator) -> Snapshots:
        """A batch of users of one group, which is drawn by its size."""
        sizes = np.array([len(group.user) for group in self.groups])
        group = self.groups[rng.choice(len(sizes), p=sizes / sizes.sum())]
        rows = rng.choice(len(group.user), min(users, len(group.user)), replace=False)
        return group.take(torch.from_numpy(rows))


def choose_users(users: Tensor, count: int | None, seed: int) -> Tensor:
    """``count`` random ones of users [u], or all, in random order. A larger choice begins with the smaller one."""
    order = np.random.default_rng([seed, 1]).permutation(len(users))
    return users[torch.from_numpy(order[:count])]


def split_blocks(links: Links) -> tuple[Tensor, Tensor]:
    """Users to label and users to test, [u] each, of the same streets: alternate blocks of `BLOCK_M`."""
    block = (links.user / BLOCK_M).floor().long().sum(1) % 2
    return torch.nonzero(block == 0)[:, 0], torch.nonzero(block == 1)[:, 0]


def label_users(links: Links, users: Tensor, configurations: SnapshotConfigurations, seed: int) -> LabelledUsers:
    """Observes all links of users [b], each user in one random shape and each link in a random bandwidth."""
    generator = torch.Generator().manual_seed(seed)
    shapes = list(product(configurations.antennas, configurations.subcarriers))
    bandwidths = torch.tensor(configurations.bandwidths)
    shape = torch.randint(len(shapes), (len(users),), generator=generator)
    groups = []
    for number, (antennas, subcarriers) in enumerate(shapes):
        chosen = users[shape == number]
        if len(chosen):
            groups.append(_observe(links, chosen, antennas, subcarriers, bandwidths, generator))
    return LabelledUsers(groups)


def _observe(
    links: Links,
    users: Tensor,
    antennas: int,
    subcarriers: int,
    bandwidths: Tensor,
    generator: torch.Generator,
) -> Snapshots:
    b, n = len(users), links.reached.shape[1]
    user, station = users.repeat_interleave(n), torch.arange(n).repeat(b)
    bandwidth = bandwidths[torch.randint(len(bandwidths), (b * n,), generator=generator)]
    csi, configuration, truth = links.observe(user, station, antennas, subcarriers, bandwidth)
    csi = add_noise(csi, (SNR_DB, SNR_DB), generator)
    return Snapshots(
        csi=csi.unflatten(0, (b, n)),
        configuration=configuration.unflatten(0, (b, n)),
        truth=Truth(*(values.unflatten(0, (b, n)) for values in truth)),
        reached=links.reached[users],
        yaw=links.yaw[users],
        station=links.station[users],
        user=links.user[users],
    )
