"""Errors that a cell's own fingerprints show: how they spread around a place, and which fingerprints are one witness.

A residual is an estimate minus the label of a fingerprint that was located as a user, left out of what it was compared
with. Pure functions over arrays.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_NEAREST = 60  # residuals that the spread around a place comes from
_PRIOR = 15  # residuals that the whole cell counts for
# Share of the cell's spread taken as the same in all directions: a covariance is that of an ellipse, not of a line.
_ROUND = 0.2
_LEAST = 1e-6  # square metres
_AT_ONCE = 256  # places

# Widths in metres of the tiles that are looked at for crowds, and the radius of a crowd found in such a tile.
_CROWDS = {0.05: 0.2, 0.25: 1.0, 1.0: 4.0}
_WIDER = 8  # how many times wider the tiles are that say what is usual
# A receiver that moves: at most so many metres and seconds from one fingerprint to the next.
_STEP, _STEP_S = 2.5, 10.0
_STRETCH = 4.0  # metres of its way that are left out together
_LINE = 0.5  # metres, or this share of a crowd's radius: a group that extends farther is part of a line

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]


def local_covariances(
    residuals: NDArray[np.floating],
    places: NDArray[np.floating],
    at: NDArray[np.floating],
    along: NDArray[np.bool_] | None = None,
) -> _Floats:
    """How residuals spread around each of some places: second moments `[b, 2, 2]` in square metres, east and north.

    Takes residuals `[n, 2]`, where they were found `[n, 2]`, and the places `[b, 2]`, all in metres; n at least 1. The
    60 residuals nearest to a place count, and the whole cell as if it were another 15. A bias counts as spread. Those
    that `along` `[n]` marks count in all directions alike: see `lie_along_lines`. The moments are finite and positive
    definite for any finite residuals.
    """
    return _local(_moments(residuals, along), places, at, own=None)


def left_out_covariances(
    residuals: NDArray[np.floating], places: NDArray[np.floating], along: NDArray[np.bool_] | None = None
) -> _Floats:
    """As `local_covariances` at the place of each residual `[n, 2]`, from the other residuals: `[n, 2, 2]`.

    To calibrate with: a user has no share in the covariance at the user's place either. n at least 2.
    """
    return _local(_moments(residuals, along), places, places, own=np.arange(len(residuals)))


def _moments(residuals: NDArray[np.floating], along: NDArray[np.bool_] | None) -> _Floats:
    """The second moments `[n, 2, 2]` of each residual by itself."""
    moments: _Floats = np.einsum("ni,nj->nij", residuals, residuals, dtype=np.float64)
    if along is not None:
        moments[along] = np.trace(moments[along], axis1=1, axis2=2)[:, np.newaxis, np.newaxis] / 2 * np.eye(2)
    return moments


def _local(of_each: _Floats, places: NDArray[np.floating], at: NDArray[np.floating], own: _Rows | None) -> _Floats:
    n = len(of_each) if own is None else len(of_each) - 1
    cell = np.broadcast_to(of_each.sum(axis=0), (len(at), 2, 2)) if own is None else of_each.sum(axis=0) - of_each
    cell = cell / n
    rounds = _ROUND * np.trace(cell, axis1=1, axis2=2) / 2 + _LEAST
    cell = (1 - _ROUND) * cell + rounds[:, np.newaxis, np.newaxis] * np.eye(2)
    k = min(_NEAREST, n)
    found = np.empty((len(at), 2, 2))
    for first in range(0, len(at), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        away = np.square(places[:, 0] - at[some, :1]) + np.square(places[:, 1] - at[some, 1:])  # [b, n]
        if own is not None:
            away[np.arange(len(away)), own[some]] = np.inf
        nearest = np.argpartition(away, k - 1, axis=1)[:, :k]
        found[some] = of_each[nearest].mean(axis=1)
    shrunk: _Floats = (k * found + _PRIOR * cell) / (k + _PRIOR)
    return shrunk


def mahalanobis(residuals: NDArray[np.floating], covariances: _Floats) -> _Floats:
    """The Mahalanobis distance `[b]` of each residual `[b, 2]` under its covariance `[b, 2, 2]`."""
    whitened = np.linalg.solve(np.linalg.cholesky(covariances), residuals[..., np.newaxis].astype(np.float64))
    distances: _Floats = np.sqrt(np.square(whitened).sum(axis=(1, 2)))
    return distances


def stretches(positions: NDArray[np.floating], times: NDArray[np.floating]) -> _Rows:
    """Which fingerprints are one witness: group numbers int64 `[n]`. Leave a group out as a whole.

    A fingerprint tells what a user elsewhere will see. It tells nothing to a fingerprint that was measured beside it a
    moment later: the two have the same echoes and the same error, and one would locate the other far better than any
    user. These belong together:

    - fingerprints that crowd at one place, far closer together than fingerprints around there usually are;
    - fingerprints of a receiver that moved, along four metres of its way: known by their times, or by their crowd if it
      is a line.

    Fingerprints scattered at random are groups of their own. Takes positions `[n, 2]` in metres and times `[n]` in Unix
    seconds, 0 where unknown.
    """
    group_of, places = np.arange(len(positions)), np.arange(len(positions))  # a group has the number of one of its rows
    line = np.zeros(len(positions), np.bool_)
    for width, reach in _CROWDS.items():
        crowded = places[_find_crowded(positions[places], width)]
        for crowd in _gather(positions, crowded, reach):
            group_of[crowd] = crowd[0]
            line[crowd[0]] |= _extent(positions[crowd]) > _LINE * min(reach, 1.0)
        group_of, places = group_of[group_of], places[group_of[places] == places]
    for stretch in _gather(positions, places[line[places]], _STRETCH):
        group_of[stretch] = stretch[0]
    group_of, places = group_of[group_of], places[group_of[places] == places]
    timed = places[(times[places] > 0) & ~line[places]]
    order = timed[np.argsort(times[timed], kind="stable")]
    group_of[order] = order[_first_of_stretches(positions[order], times[order])]
    return np.unique(group_of[group_of], return_inverse=True)[1].astype(np.int64)


def lie_along_lines(positions: NDArray[np.floating], group_of: _Rows) -> NDArray[np.bool_]:
    """Which fingerprints belong to a group that extends along a line, `[n]`.

    Takes positions `[n, 2]` in metres and the groups that `stretches` made of them. The errors of such fingerprints
    show how far users are off, but only in the direction of the line.
    """
    low, high = (np.full((group_of.max() + 1, 2), end, np.float64) for end in (np.inf, -np.inf))
    np.minimum.at(low, group_of, positions)
    np.maximum.at(high, group_of, positions)
    along: NDArray[np.bool_] = (np.hypot(*(high - low).T) > _LINE)[group_of]
    return along


def _extent(positions: NDArray[np.floating]) -> float:
    """The diagonal of the rectangle around positions `[n, 2]`, metres."""
    return float(np.hypot(*np.ptp(positions, axis=0)))


def _find_crowded(positions: NDArray[np.floating], width: float) -> NDArray[np.bool_]:
    """Which of positions `[n, 2]` share a tile `width` metres wide with many others, `[n]`.

    Many are far more than positions scattered over the wider tile around it would put there.
    """
    around, beside = (
        # A crowd may lie across the border of tiles, and the survey may end there.
        np.maximum(_count_others(positions, tile, 0.0), _count_others(positions, tile, 0.5))
        for tile in (_WIDER * width, width)
    )
    usual = around / _WIDER**2
    crowded: NDArray[np.bool_] = beside > 2 * usual + 2 * np.sqrt(usual) + 0.7
    return crowded


def _count_others(positions: NDArray[np.floating], width: float, shift: float) -> _Rows:
    """With how many others each of positions `[n, 2]` shares its tile, `[n]`. `shift`: of the tiles, in widths."""
    east, north = np.floor(positions.astype(np.float64) / width + shift).astype(np.int64).T
    _, tile_of, counts = np.unique(east * (1 << 32) + north, return_inverse=True, return_counts=True)
    others: _Rows = (counts - 1)[tile_of]
    return others


def _gather(positions: NDArray[np.floating], rows: _Rows, reach: float) -> Iterator[_Rows]:
    """Parts rows `[m]` into those within `reach` metres of one of them, from the west to the east."""
    tiles: dict[tuple[int, int], list[int]] = defaultdict(list)
    keys = [(int(east), int(north)) for east, north in np.floor(positions[rows] / reach).tolist()]
    tile_of = dict(zip(rows.tolist(), keys, strict=True))
    for row, key in tile_of.items():
        tiles[key].append(row)
    for leader in rows[np.lexsort(positions[rows].T[::-1])].tolist():
        if leader not in tile_of:
            continue
        east, north = tile_of[leader]
        around = [(east + i, north + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (east + i, north + j) in tiles]
        near = np.array([row for tile in around for row in tiles[tile]])
        crowd = np.sort(near[np.hypot(*(positions[near] - positions[leader]).T) <= reach])
        for row in crowd.tolist():
            tiles[tile_of.pop(row)].remove(row)
        yield crowd


def _first_of_stretches(positions: NDArray[np.floating], times: NDArray[np.floating]) -> _Rows:
    """For positions `[n, 2]` in the order of their times `[n]`: the first of each one's stretch, `[n]`."""
    if not len(positions):
        return np.zeros(0, np.int64)
    steps, pauses = np.hypot(*np.diff(positions.astype(np.float64), axis=0).T), np.diff(times)
    # At one and the same time many may have been recorded: these times say nothing.
    moved = (steps <= _STEP) & (pauses > 0) & (pauses <= _STEP_S)
    way = np.concatenate([[0.0], np.cumsum(np.where(moved, steps, 0.0))])
    starts = np.concatenate([[True], ~moved])
    from_start = way - way[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    part = np.floor(from_start / _STRETCH)
    starts[1:] |= np.diff(part) > 0
    first: _Rows = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    return first
