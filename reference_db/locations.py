"""Locations: fingerprints of one place, to be kept apart as a whole from those that they are compared with.

Repeated snapshots of one point are nearly copies of each other. A survey that has one of them says little about how
well another is located.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadHoldOut

FEWEST_LOCATIONS = 5
LARGEST_LOCATION = 0.5  # share of the fingerprints


def find_locations(positions: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
    """Numbers the locations of positions `[n, 2]`: `[n]`, equal for two within `distance` metres, or linked by others.

    Numbers go from 0, in the order of the first position of each.
    """
    if not len(positions):
        return np.zeros(0, np.int64)
    # Two positions in one square are within the distance. So squares are linked, and each is looked at once.
    squares, of_square = _sort_into_squares(positions.astype(np.float64), distance / np.sqrt(2) * (1 - 1e-9))
    parents = list(range(len(squares)))
    members = np.split(np.argsort(of_square, kind="stable"), np.cumsum(np.bincount(of_square))[:-1])
    places = [positions[rows].astype(np.float64) for rows in members]
    for one, other in _near_squares(squares):
        roots = _root(parents, one), _root(parents, other)
        if roots[0] != roots[1] and _are_within(places[one], places[other], distance):
            parents[max(roots)] = min(roots)
    roots_of = np.array([_root(parents, square) for square in range(len(squares))])[of_square]
    _, first, numbers = np.unique(roots_of, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)


def find_squares(positions: NDArray[np.float32], side: float) -> NDArray[np.int64]:
    """Numbers the squares of a grid that positions `[n, 2]` are in: `[n]`. `side` in metres."""
    return _sort_into_squares(positions.astype(np.float64), side)[1]


def choose_held_out(locations: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Whether each fingerprint is held out: bool `[n]`, of a random `share` of the locations, one at least.

    `locations` `[n]` are numbers from 0. Raises `BadHoldOut` if there are too few locations, or if one has most of the
    fingerprints.
    """
    sizes = np.bincount(locations)
    if len(sizes) < FEWEST_LOCATIONS or sizes.max() > LARGEST_LOCATION * len(locations):
        raise BadHoldOut(len(locations), len(sizes), int(sizes.max(initial=0)))
    order = random.permutation(len(sizes))
    return np.isin(locations, order[: max(1, round(share * len(sizes)))])


def _sort_into_squares(positions: NDArray[np.float64], side: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The occupied squares `[m, 2]` in lexical order, and the number of each position's `[n]`."""
    squares, numbers = np.unique(np.floor(positions / side).astype(np.int64), axis=0, return_inverse=True)
    return squares, numbers.reshape(-1).astype(np.int64)


def _near_squares(squares: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of occupied squares whose positions may be within the distance, which is the diagonal of a square."""
    numbers = {square: number for number, square in enumerate(map(tuple, squares.tolist()))}
    steps = [(x, y) for x, y in product(range(3), range(-2, 3)) if (x, y) > (0, 0)]
    for (x, y), number in numbers.items():
        for dx, dy in steps:
            other = numbers.get((x + dx, y + dy))
            if other is not None:
                yield number, other


def _are_within(one: NDArray[np.float64], other: NDArray[np.float64], distance: float) -> bool:
    rows = max(1, 1_000_000 // len(other))  # of one at a time, so that memory is bounded
    for start in range(0, len(one), rows):
        steps = one[start : start + rows, None] - other
        if (np.square(steps).sum(axis=2) <= distance**2).any():
            return True
    return False


def _root(parents: list[int], one: int) -> int:
    while parents[one] != one:
        parents[one] = one = parents[parents[one]]
    return one
