"""Exact search over the positions of a large cell: boxes of positions, of which a search opens few."""

import numpy as np
from numpy.typing import NDArray

_HELD = 512  # most positions in a box
_FIRST = 3  # fewest boxes that a search for the nearest opens
_SPARE = 4  # `within` compares about `_SPARE * most` positions; of more it skips some in each box

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class PositionBoxes:
    """Positions float32 `[n, 2]` in boxes of equal count: all positions, halved repeatedly across the longer side.

    Because counts are equal, crowds, copies and outliers make no box large. The distance to a box is computed by the
    same float32 operations as the distance to a position, and rounding is monotonic. So no box seems farther away than
    the positions in it, and searches are exact however far away the origin is.
    """

    def __init__(self, positions: _Floats) -> None:
        self._rows = _halved(positions)  # [boxes, held], -1 where a box is not full
        points = np.where(self._rows[..., np.newaxis] < 0, np.float32(np.nan), positions[self._rows])
        self._points: _Floats = np.ascontiguousarray(points.transpose(0, 2, 1))  # [boxes, 2, held]; NaN is never near
        self._low: _Floats = np.ascontiguousarray(np.fmin.reduce(points, axis=1).T)  # [2, boxes]
        self._high: _Floats = np.ascontiguousarray(np.fmax.reduce(points, axis=1).T)

    def nearest(self, centres: _Floats, n: int) -> tuple[_Rows, _Floats]:
        """The n positions nearest to each centre `[b, 2]`: indices and squared distances `[b, n]`, nearest first."""
        indices, squared = np.empty((len(centres), n), np.int64), np.empty((len(centres), n), np.float32)
        for row, centre in enumerate(centres):
            indices[row], squared[row] = self._nearest(centre, n)
        return indices, squared

    def within(self, centre: _Floats, radius: float, most: int | None = None) -> tuple[_Rows, int]:
        """The indices of positions at most `radius` metres from `centre` `[2]`, ascending, and the sampling step.

        The step is 1 if all such positions are returned. With `most`, at most so many are returned, spread evenly over
        the area; one in `step` is chosen then.
        """
        limit = np.float32(radius) ** 2
        boxes = np.flatnonzero(self._apart(centre) <= limit)
        step = 1 if most is None else max(1, boxes.size * self._rows.shape[1] // (_SPARE * most))
        squared = self._squared(boxes, centre, step)
        found = self._rows[boxes, ::step].ravel()[squared <= limit]
        thinned = 1 if most is None else -(-len(found) // most) or 1  # rows of one box are neighbours, so this is even
        return np.sort(found[::thinned]), step * thinned

    @property
    def resident_bytes(self) -> int:
        return sum(held.nbytes for held in (self._rows, self._points, self._low, self._high))

    def _nearest(self, centre: _Floats, n: int) -> tuple[_Rows, _Floats]:
        apart = self._apart(centre)
        first = max(_FIRST, 1 + -(-n // self._rows.shape[1]))  # the last box may not be full
        boxes = np.argpartition(apart, first)[:first] if first < len(apart) else np.arange(len(apart))
        squared = self._squared(boxes, centre)
        farthest = np.partition(squared, n - 1)[n - 1]
        nearer = apart < farthest
        if np.count_nonzero(nearer) > np.count_nonzero(nearer[boxes]):
            boxes = np.flatnonzero(nearer)
            squared = self._squared(boxes, centre)
        kept = np.flatnonzero(squared <= farthest)
        kept = kept[squared[kept].argsort(kind="stable")[:n]]
        return self._rows[boxes].ravel()[kept], squared[kept]

    def _apart(self, centre: _Floats) -> _Floats:
        """The squared distance of each box from a centre; NaN for empty boxes."""
        x = centre[:, np.newaxis]
        aside = np.maximum(self._low - x, x - self._high)
        np.maximum(aside, 0, out=aside)
        np.square(aside, out=aside)
        apart: _Floats = aside[0] + aside[1]
        return apart

    def _squared(self, boxes: _Rows, centre: _Floats, step: int = 1) -> _Floats:
        """The squared distances from a centre to every `step`-th position in some boxes, box by box."""
        away = self._points[boxes, :, ::step]
        away -= centre[:, np.newaxis]
        np.square(away, out=away)
        squared: _Floats = (away[:, 0] + away[:, 1]).ravel()
        return squared


def _halved(positions: _Floats) -> _Rows:
    """The rows of positions `[n, 2]` in each box: `[boxes, held]`; the last boxes are padded with -1."""
    n = len(positions)
    halvings = max(0, -(-n // _HELD) - 1).bit_length()
    held = -(-n // 2**halvings)
    rows = np.full(held << halvings, -1)
    rows[:n] = np.arange(n)
    points = np.full((len(rows), 2), np.nan, np.float32)  # NaN sorts last
    points[:n] = positions
    for halving in range(halvings):
        blocks = points.reshape(1 << halving, -1, 2)
        sides = np.fmax.reduce(blocks, axis=1) - np.fmin.reduce(blocks, axis=1)
        along = np.take_along_axis(blocks, sides.argmax(axis=1)[:, np.newaxis, np.newaxis], axis=2)[..., 0]
        order = np.argpartition(along, along.shape[1] // 2, axis=1)
        order += along.shape[1] * np.arange(len(order))[:, np.newaxis]
        rows, points = rows[order.ravel()], points[order.ravel()]
    return rows.reshape(-1, held)
