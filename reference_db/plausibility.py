"""Judges whether a survey can be what it claims to be: positions in metres, CSI that tells them apart, a known layout.

`check_fingerprints` refuses single rows that cannot be used. These checks look at the survey as a whole.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.element_order import OrderVerdict, judge_order
from reference_db.fingerprints import Fingerprints
from reference_db.index.signal_features import signal_feature
from reference_db.path_features import SPEED_OF_LIGHT

Severity = Literal["refused", "warning"]

_SMALLEST_EXTENT, _LARGEST_EXTENT = 0.5, 20_000.0  # metres
_FEWEST = 4  # fingerprints whose extent says something
_DEGREES_APART = 0.5  # positions this close to the base station's degrees are degrees
_SAME_PLACE = 0.3  # metres
_CROWDED_FEWEST, _CROWDED_SHARE = 16, 0.5
_TWINS_SHARE = 0.1
_LOOKED_AT = 4096  # fingerprints searched for equal CSI

# Snapshots compared with each other. Their CSI has 2 MiB; of larger snapshots there are fewer.
FEWEST_COMPARED, _MOST_COMPARED, _VALUES_COMPARED = 64, 512, 2**18
_MOST_VALUES = 2**17  # of a snapshot
_ALIKE = 5  # nearest neighbours in signal
_SHUFFLES = 64
# Standard deviations of shuffled surveys by which they are nearer than strangers: 20 or more in measured corridors with
# one antenna and 20 MHz, 45 or more in traced streets, 6 or more in a room of 10 m x 5 m out of sight with two antennas
# and 20 MHz; -1 to 4 for random CSI.
_BETTER_THAN_CHANCE = 4.5
_FEWEST_REFUSED = 256  # fewer fingerprints of a poor radio in a small room may look like chance


class Finding(NamedTuple):
    """What is implausible about a survey, and what to do. A `refused` survey needs a person who insists."""

    name: str
    severity: Severity
    reason: str
    advice: str


def check_plausibility(fingerprints: Fingerprints, cell: Cell, *, whole: bool = True) -> list[Finding]:
    """What is implausible about fingerprints that passed `check_fingerprints`. An empty list is a plausible survey.

    `whole`: the fingerprints are all that the cell will have, not an addition, which may lie at one place. Looks at a
    sample of large surveys. Takes a tenth of a second for 32 antennas and 32 subcarriers. Below 64 fingerprints the
    CSI is only searched for copies.
    """
    findings = list(_check_places(fingerprints.positions, cell)) if whole else []
    if any(finding.severity == "refused" for finding in findings):
        return findings  # the other checks need places
    random = np.random.default_rng(0)
    rows = _draw(random, len(fingerprints), _LOOKED_AT)
    findings += _check_twins(fingerprints.csi[rows], fingerprints.positions[rows], fingerprints.sigmas[rows])
    values = cell.antennas * cell.subcarriers
    if len(fingerprints) < FEWEST_COMPARED or values > _MOST_VALUES:
        return findings
    rows = _draw(random, len(fingerprints), int(np.clip(_VALUES_COMPARED // values, FEWEST_COMPARED, _MOST_COMPARED)))
    csi, positions = fingerprints.csi[rows], fingerprints.positions[rows]
    findings += _check_signal(csi, positions, cell, len(fingerprints))
    findings += _describe_order(judge_order(csi, positions, cell), cell)
    return findings


def _draw(random: np.random.Generator, n: int, most: int) -> NDArray[np.int64]:
    return np.sort(random.choice(n, min(n, most), replace=False))


def _check_places(positions: NDArray[np.float32], cell: Cell) -> Iterator[Finding]:
    n = len(positions)
    if n < _FEWEST:
        return
    places = positions.astype(np.float64)
    extent = float(np.linalg.norm(np.ptp(places, axis=0)))
    degrees = (cell.latitude_deg, cell.longitude_deg)
    if any((np.abs(places - order) < _DEGREES_APART).all() for order in (degrees, degrees[::-1])):
        yield Finding(
            "degrees",
            "refused",
            f"all positions are within {_DEGREES_APART} of the base station's degrees",
            "positions must be metres east and north; name degrees latitudes_deg and longitudes_deg, or lat and lon",
        )
    elif extent < _SMALLEST_EXTENT:
        yield Finding(
            "extent",
            "refused",
            f"all {n} positions lie within {extent:.2g} m, so every user would be located there",
            "check that positions are metres east and north of the base station, one for each fingerprint",
        )
    elif extent > _LARGEST_EXTENT:
        yield Finding(
            "extent",
            "warning",
            f"the positions extend over {extent / 1e3:.0f} km",
            "check that positions are metres, not centimetres or millimetres",
        )
    _, counts = np.unique(np.round(places / _SAME_PLACE), axis=0, return_counts=True)
    if extent >= _SMALLEST_EXTENT and n >= _CROWDED_FEWEST and counts.max() > _CROWDED_SHARE * n:
        yield Finding(
            "spread",
            "warning",
            f"{counts.max()} of {n} fingerprints lie at one place, the others at {len(counts) - 1} places",
            "check the positions; users elsewhere will be located badly",
        )


def _check_twins(
    csi: NDArray[np.complex64], positions: NDArray[np.float32], sigmas: NDArray[np.float32]
) -> Iterator[Finding]:
    """Fingerprints that have equal CSI and lie apart."""
    first: dict[bytes, int] = {}
    twins: set[int] = set()
    for row, snapshot in enumerate(csi):
        other = first.setdefault(snapshot.tobytes(), row)
        apart = np.hypot(*(positions[row] - positions[other]).tolist())
        if apart > max(_SAME_PLACE, 3 * float(sigmas[row] + sigmas[other])):
            twins |= {row, other}
    if twins:
        share = len(twins) / len(csi)
        yield Finding(
            "copies",
            "refused" if share >= _TWINS_SHARE else "warning",
            f"{len(twins)} of {len(csi)} fingerprints at different places have the same CSI",
            "check how CSI and positions were joined: a snapshot belongs to one place",
        )


def _check_signal(
    csi: NDArray[np.complex64], positions: NDArray[np.float32], cell: Cell, size: int
) -> Iterator[Finding]:
    """Whether the CSI tells places apart, from a sample of a survey of `size` fingerprints.

    Compares where snapshots and their nearest neighbours in signal lie.
    """
    if csi[0].size < 2:
        return
    places = positions.astype(np.float64)
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    elsewhere = distances > _SAME_PLACE
    compared = elsewhere.any(axis=1)
    if not compared.any():
        return
    alike = min(_ALIKE, int(elsewhere.sum(axis=1)[compared].min()))
    random = np.random.default_rng(0)
    shuffles = [random.permutation(len(places)) for _ in range(_SHUFFLES)]
    features = signal_feature(csi)
    means, scores = [], []
    for part in np.split(features, 2, axis=1):  # without and with the absolute delay
        likeness = np.where(elsewhere, part @ part.T, -1)[compared]
        nearest = np.argpartition(-likeness, alike - 1, axis=1)[:, :alike]
        own = np.flatnonzero(compared)[:, None]
        mean = float(distances[own, nearest].mean())
        chance = [float(distances[moved[own], moved[nearest]].mean()) for moved in shuffles]
        means.append(mean)
        scores.append((np.mean(chance) - mean) / max(float(np.std(chance)), 1e-9))
    if max(scores) < _BETTER_THAN_CHANCE:
        # One antenna tells places apart by delays alone.
        resolvable = cell.antennas > 1 or distances.max() > SPEED_OF_LIGHT / cell.bandwidth
        yield Finding(
            "signal",
            "refused" if resolvable and size >= _FEWEST_REFUSED else "warning",
            f"the CSI tells nothing about the place: snapshots that are alike lie {min(means):.3g} m apart, "
            f"and any two lie {np.mean(chance):.3g} m apart",
            "check that csi holds channel responses, in the same order as the positions",
        )


def _describe_order(verdict: OrderVerdict, cell: Cell) -> Iterator[Finding]:
    fits = {
        "conjugated": (
            "conjugated: bearings are mirrored, and echoes come before the direct path",
            "conjugate the CSI; a path of delay tau must contribute exp(-j 2 pi f tau)",
        ),
        "columns reversed": (
            "in reverse order of the columns: bearings are mirrored",
            "reverse the columns: column 0 is at the right seen from behind the array. Or check the sign of phase, and "
            "that yaw is where broadside points, not the opposite",
        ),
        "subcarriers reversed": (
            "in reverse order of the subcarriers: echoes come before the direct path",
            "reverse the subcarriers: they must go by ascending frequency",
        ),
        "transposed": (
            f"transposed: bearings fit if it is read as {cell.subcarriers} subcarriers by {cell.antennas} antennas",
            "store csi as antennas by subcarriers, the subcarriers running fastest",
        ),
        "column by column": (
            "column by column: bearings fit if its antennas are read in that order",
            "number the antennas row by row, row 0 at the bottom",
        ),
    }
    if verdict.order in fits:
        reading, advice = fits[verdict.order]
        yield Finding("order", "refused", f"the CSI is {reading}", advice)
    elif verdict.order == "echoes first":
        yield Finding(
            "order",
            "warning",
            "echoes come before the direct path: the CSI is conjugated, or its subcarriers are in reverse order",
            "check the sign of phase and the order of the subcarriers",
        )
    elif verdict.order == "turned" and verdict.yaw is not None:
        fitting, stated = (np.degrees(yaw) % 360 for yaw in (verdict.yaw, cell.yaw))
        yield Finding(
            "yaw",
            "warning",
            f"bearings fit an array that points {fitting:.0f} degrees from east, but yaw says {stated:.0f}",
            "yaw counts counter-clockwise from east, a compass clockwise from north. Or east and north are exchanged",
        )
