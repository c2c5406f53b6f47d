"""What locates the test snapshots in process, without the service."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured.corridors import Corridor, Shown, find_null_subcarriers
from benchmarks.measured.scores import Located

K = 9  # snapshots that kNN averages

Locate = Callable[[Corridor], Located]


def rivals(shown: Shown) -> dict[str, Locate]:
    """By the name of the row."""
    found: dict[str, Locate] = {
        "the corridor's centre, no CSI": locate_at_centre,
        "the reference captured next to it in time, no CSI": locate_by_time,
        f"kNN of the level, k = {K}": locate_by_level,
        f"kNN of amplitudes, k = {K}": locate_by_amplitudes,
    }
    if shown == "captured":
        found[f"the same, of the {find_null_subcarriers().sum()} null subcarriers alone"] = locate_by_null_subcarriers
    return found


def locate_at_centre(corridor: Corridor) -> Located:
    return Located.without_ellipses(np.tile(corridor.survey.positions.mean(axis=0), (len(corridor.test), 1)))


def locate_by_time(corridor: Corridor) -> Located:
    """Where the surveyor stood shortly before or after. Shows what anything that tells the time is worth."""
    apart = np.abs(corridor.test.times[:, np.newaxis] - corridor.survey.times)
    return Located.without_ellipses(corridor.survey.positions[apart.argmin(axis=1)])


def locate_by_level(corridor: Corridor) -> Located:
    """The mean position of the K snapshots with the most similar power."""
    known, asked = (np.log(np.linalg.norm(part.csi[:, 0], axis=1)) for part in (corridor.survey, corridor.test))
    nearest = np.argsort(np.abs(asked[:, np.newaxis] - known), axis=1)[:, :K]
    return Located.without_ellipses(corridor.survey.positions[nearest].mean(axis=1))


def locate_by_amplitudes(corridor: Corridor) -> Located:
    """The mean position of the K snapshots with the most similar amplitudes, each scaled to unit norm."""
    return _average_most_alike(corridor, np.ones(corridor.test.csi.shape[2], np.bool_))


def locate_by_null_subcarriers(corridor: Corridor) -> Located:
    """As `locate_by_amplitudes`, by the subcarriers on which nothing was sent."""
    return _average_most_alike(corridor, find_null_subcarriers())


def _average_most_alike(corridor: Corridor, subcarriers: NDArray[np.bool_]) -> Located:
    known, asked = (np.abs(part.csi[:, 0, subcarriers]) for part in (corridor.survey, corridor.test))
    known, asked = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (known, asked))
    nearest = np.argsort(-(asked @ known.T), axis=1)[:, :K]
    return Located.without_ellipses(corridor.survey.positions[nearest].mean(axis=1))
