"""Which truths would pay as fingerprints."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fingerpost.wire_truths import Reason
from reference_db.cell_version import CellVersion
from reference_db.fingerprint_arrays import DEFAULT_SIGMA
from service.truths.scoring import Score

_SAMPLE = 512  # fingerprints of a cell whose distances are measured
_FAR = 2.0  # times the usual distance between fingerprints
_NEAR = 0.5  # times it: a truth beside another proposed one adds nothing
_LEAST_SPACING = 0.1  # metres


class Candidate(NamedTuple):
    """A truth with CSI: metres east and north, its 1-sigma error in metres, and how it was located."""

    east: float
    north: float
    sigma: float
    score: Score


def propose_fingerprints(
    candidates: Sequence[Candidate | None], version: CellVersion | None
) -> list[list[Reason] | None]:
    """Why each truth would pay as a fingerprint of the version, None where it would not. None for `version`: the cell
    has no fingerprints that locate users.

    A label must be exact: its error at most half the usual distance from one fingerprint to the next.
    """
    spacing = math.inf if version is None else _measure_spacing(version)
    reasons: list[list[Reason] | None] = []
    taken: list[tuple[float, float]] = []
    for one in candidates:
        found = None if one is None else _find_reasons(one, version, spacing)
        if one is not None and found:
            near = _NEAR * (_LEAST_SPACING if version is None else spacing)
            if any(math.dist(place, (one.east, one.north)) < near for place in taken):
                found = None
            else:
                taken.append((one.east, one.north))
        reasons.append(found or None)
    return reasons


def _find_reasons(one: Candidate, version: CellVersion | None, spacing: float) -> list[Reason]:
    if one.sigma > max(spacing / 2, DEFAULT_SIGMA):
        return []
    if version is not None and one.score.answer.source == "coarse":
        return []  # the CSI is at fault, or foreign to the cell: its fingerprint would lead other users astray
    reasons: list[Reason] = []
    nearest = math.inf if version is None else _distance_to(version, one)
    if nearest > _FAR * spacing or version is None:
        reasons.append("FAR_FROM_FINGERPRINTS")
    if one.score.error - 2 * one.sigma > max(nearest, spacing):
        reasons.append("BADLY_LOCATED")
    if not one.score.inside:
        reasons.append("OUTSIDE_ELLIPSE")
    return reasons


def _distance_to(version: CellVersion, one: Candidate) -> float:
    _, distances = version.index.nearest(np.array([[one.east, one.north]], np.float32), 1)
    return float(distances[0, 0])


def _measure_spacing(version: CellVersion) -> float:
    """The usual distance in metres from a fingerprint to the next one."""
    if len(version) < 2:
        return math.inf
    rows = np.linspace(0, len(version) - 1, min(len(version), _SAMPLE)).astype(np.int64)
    _, distances = version.index.nearest(version.positions[rows], 2)
    return max(float(np.median(distances[:, 1])), _LEAST_SPACING)
