"""Where a survey stands: all over the street, or on lines along it, as a drive test or a walk leaves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.mateformer.conditions import Layout

HALF_WIDTH_M = 0.5  # of a line
PAVEMENTS = (0.1, 0.9)  # quantiles of the distance across the street
FEWEST = 24  # references: where the lines hold fewer, the nearest to them are added


def choose_references(positions: NDArray[np.float32], layout: Layout, count: int) -> NDArray[np.int64]:
    """Rows of ``positions`` [n, 2] (metres, all over the street) that the survey measured, ascending.

    An area has the first ``count``. Lines have those of the first ``count`` that stand on them. The street runs along
    the principal axis of the positions; its centre line goes through their median, the pavements are parallel to it.
    """
    positions = positions[:count]
    if layout == "area":
        return np.arange(len(positions))
    centred = (positions - np.median(positions, axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(centred.T))
    across = centred @ axes[:, 0]  # the axis of the smaller variance
    lines = [0.0] if layout == "centre line" else np.quantile(across, PAVEMENTS)
    away = np.min([np.abs(across - line) for line in lines], axis=0)
    limit = max(HALF_WIDTH_M, np.sort(away)[:FEWEST][-1])
    return np.flatnonzero(away <= limit)
