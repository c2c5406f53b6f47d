"""Draws short trajectories from scattered users: spatial clusters, held-out points, and the draw itself.

Section II-B of the SCADF-MoE paper. Its merged balls around all users are the connected components of the graph that
joins users at most one radius apart. Evenly and densely placed users, as in a traced street, merge into one cluster per
street; the trajectory's own radius keeps it short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from models.errors import TrainerError
from reference_db.errors import BadHoldOut
from reference_db.locations import choose_held_out, find_squares


class NoTrajectories(TrainerError):
    """Users are too far apart for clusters or for trajectories of this length and radius."""


@dataclass(frozen=True)
class Clusters:
    radius: float  # metres
    labels: NDArray[np.int64]  # [users] 0, 1, ... in the order of the clusters' first users


def cluster(positions: NDArray[np.float32], enough: int, most: float) -> Clusters:
    """Clusters users by the smallest radius at which half of the clusters have ``enough`` users.

    Positions are [users, 2] metres. The radius is at most ``most`` metres. Raises `NoTrajectories` if there is none.
    """
    pairs = cKDTree(positions).query_pairs(most, output_type="ndarray")
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    root, size = list(range(len(positions))), [1] * len(positions)

    def find(user: int) -> int:
        while root[user] != user:
            root[user] = user = root[root[user]]
        return user

    clusters, large = len(positions), len(positions) if enough <= 1 else 0
    radius = 0.0
    for row in np.argsort(lengths, kind="stable"):
        if 2 * large >= clusters and lengths[row] > radius:
            break
        radius = float(lengths[row])
        one, other = find(int(pairs[row, 0])), find(int(pairs[row, 1]))
        if one != other:
            large -= (size[one] >= enough) + (size[other] >= enough)
            root[other] = one
            size[one] += size[other]
            large += size[one] >= enough
            clusters -= 1
    if 2 * large < clusters:
        raise NoTrajectories(f"no radius up to {most:g} m gives half of the clusters {enough} users")
    roots = np.array([find(user) for user in range(len(positions))], np.int64)
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    return Clusters(radius, np.argsort(np.argsort(first))[inverse].astype(np.int64))


def hold_out(labels: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool [users]: a random ``share`` of each cluster, which training never sees."""
    held = np.zeros(len(labels), np.bool_)
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        # Random rounding: small clusters hold out the right share on average.
        count = int(np.floor(share * len(members) + rng.random()))
        held[rng.permutation(members)[:count]] = True
    return held


def hold_out_regions(
    positions: NDArray[np.float32], side: float, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """bool [users]: those in a random ``share`` of the squares, ``side`` metres wide, in which users [users, 2] stand.

    Raises `NoTrajectories` if there are too few squares.
    """
    try:
        return choose_held_out(find_squares(positions, side), share, rng)
    except BadHoldOut as error:
        raise NoTrajectories(f"regions of {side:g} m are too wide for these users: {error}") from error


class Trajectories:
    """Draws ``length`` users of one cluster, all within ``radius`` metres of the first one, the anchor.

    Only users in ``allowed``, bool [users], are drawn. A trajectory has at least one user in ``must``. Raises
    `NoTrajectories` if no user has enough neighbours.
    """

    def __init__(
        self,
        positions: NDArray[np.float32],
        labels: NDArray[np.int64],
        allowed: NDArray[np.bool_],
        length: int,
        radius: float,
        must: NDArray[np.bool_] | None = None,
    ) -> None:
        users = np.flatnonzero(allowed)
        tree = cKDTree(positions[users])
        near = [users[sorted(rows)] for rows in tree.query_ball_point(positions[users], radius)]
        near = [around[labels[around] == labels[user]] for user, around in zip(users, near, strict=True)]
        chosen = [
            (user, around[around != user])
            for user, around in zip(users, near, strict=True)
            if len(around) >= length and (must is None or must[around].any())
        ]
        if not chosen:
            raise NoTrajectories(f"no user has {length - 1} others of its cluster within {radius:g} m")
        self._anchors = np.array([user for user, _ in chosen], np.int64)
        self._near = [around for _, around in chosen]
        self._length, self._must = length, must

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Users int64 [count, length], the anchor first. A trajectory has no user twice."""
        drawn = np.empty((count, self._length), np.int64)
        for number in range(count):
            while True:
                anchor = int(rng.integers(len(self._anchors)))
                others = rng.choice(self._near[anchor], self._length - 1, replace=False)
                drawn[number] = self._anchors[anchor], *others
                if self._must is None or self._must[drawn[number]].any():
                    break
        return drawn
