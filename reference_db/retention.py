"""The retention policy of a cell: which fingerprints it keeps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class Excess(NamedTuple):
    """The fingerprints that a retention removes, bool `[n]` each, by the limit that removes them."""

    old: NDArray[np.bool_]
    close: NDArray[np.bool_]
    many: NDArray[np.bool_]


class Retention(BaseModel):
    """Limits on a cell's fingerprints. A limit of None keeps everything.

    `max_age_s` is in seconds since the measurement; fingerprints of unknown time never expire. `max_fingerprints` keeps
    the newest; of equally old ones, those later in the cell. `min_spacing_m`, in metres, keeps the newer of two
    fingerprints that are closer together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_age_s: float | None = Field(default=None, gt=0)
    max_fingerprints: int | None = Field(default=None, ge=1)
    min_spacing_m: float | None = Field(default=None, gt=0, le=1000)

    def kept(self, positions: NDArray[np.float32], times: NDArray[np.float64], now: float) -> NDArray[np.bool_]:
        """Which fingerprints to keep at time `now` (Unix seconds): bool `[n]`.

        Takes positions `[n, 2]` in metres and times `[n]` in Unix seconds.
        """
        excess = self.find_excess(positions, times, now)
        kept: NDArray[np.bool_] = ~(excess.old | excess.close | excess.many)
        return kept

    def find_excess(self, positions: NDArray[np.float32], times: NDArray[np.float64], now: float) -> Excess:
        """The fingerprints to remove, as `kept` takes them. The limits apply in the order of `Excess`."""
        none = np.zeros(len(times), np.bool_)
        old = none if self.max_age_s is None else (times != 0) & (times < now - self.max_age_s)
        if self.min_spacing_m is None and self.max_fingerprints is None:
            return Excess(old, none, none)
        newest_first = np.lexsort((-np.arange(len(times)), -times))
        close = none
        if self.min_spacing_m is not None:
            close = ~old & ~_spaced(positions, newest_first[~old[newest_first]], self.min_spacing_m)
        many = none.copy()
        if self.max_fingerprints is not None:
            ranked = newest_first[~(old | close)[newest_first]]
            many[ranked[self.max_fingerprints :]] = True
        return Excess(old, close, many)


def _spaced(positions: NDArray[np.float32], order: NDArray[np.int64], spacing: float) -> NDArray[np.bool_]:
    """Keeps, in the given order, each row at least `spacing` metres from all rows kept before: bool `[n]`."""
    chosen = np.zeros(len(positions), np.bool_)
    exact = positions.astype(np.float64)
    squares, places = np.floor(exact / spacing).astype(np.int64).tolist(), exact.tolist()
    # Rows kept so far, by grid square as wide as the spacing: rows that are too close lie in the nine squares around.
    taken: dict[tuple[int, int], list[int]] = {}
    for row in order.tolist():
        (east, north), (i, j) = places[row], squares[row]
        around = (other for di in (-1, 0, 1) for dj in (-1, 0, 1) for other in taken.get((i + di, j + dj), ()))
        if all((east - places[o][0]) ** 2 + (north - places[o][1]) ** 2 >= spacing**2 for o in around):
            chosen[row] = True
            taken.setdefault((i, j), []).append(row)
    return chosen
