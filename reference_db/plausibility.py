"""Judges whether a survey can be what it claims to be: positions in metres, CSI that tells them apart, a known layout.

`check_fingerprints` refuses single rows that cannot be used. These checks look at the survey as a whole.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.element_order import Bearing, OrderVerdict, judge_order
from reference_db.findings import Finding, describe_order, describe_response, describe_units
from reference_db.fingerprints import Fingerprints
from reference_db.frequency_response import judge_response
from reference_db.index.signal_features import signal_feature
from reference_db.path_features import SPEED_OF_LIGHT
from reference_db.position_units import judge_units

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
# Standard deviations of shuffled surveys by which they are nearer than strangers: 45 or more in traced streets, 6 or
# more in a room of 10 m x 5 m out of sight with two antennas and 20 MHz; -1 to 4 for random CSI, and below the limit in
# measured corridors with one antenna and 20 MHz, where no method locates anybody (benchmarks/results/measured.md).
_BETTER_THAN_CHANCE = 4.5
_FEWEST_REFUSED = 256  # fewer fingerprints of a poor radio in a small room may look like chance


class Plausibility(NamedTuple):
    """The findings about a survey; none for a plausible one. `bearing`: None where it was not looked at.

    `unjudged` says why the layout of the CSI could not be judged; None if it could. `positions_unjudged` says why the
    units of the positions, or an exchange of east and north, could not be judged.
    """

    findings: list[Finding]
    bearing: Bearing | None = None
    unjudged: str | None = None
    positions_unjudged: str | None = None


def check_plausibility(fingerprints: Fingerprints, cell: Cell, *, whole: bool = True) -> Plausibility:
    """What is implausible about fingerprints that passed `check_fingerprints`.

    `whole`: the fingerprints are all that the cell will have, not an addition, which may lie at one place. Looks at a
    sample of large surveys. Takes a tenth of a second for 32 antennas and 32 subcarriers. Below 64 fingerprints the
    CSI is only searched for copies.
    """
    findings = list(_check_places(fingerprints.positions, cell)) if whole else []
    if any(finding.severity == "refused" for finding in findings):
        return _give_up(findings, "the positions cannot be right")
    random = np.random.default_rng(0)
    rows = _draw(random, len(fingerprints), _LOOKED_AT)
    findings += _check_twins(fingerprints.csi[rows], fingerprints.positions[rows], fingerprints.sigmas[rows])
    values = cell.antennas * cell.subcarriers
    if len(fingerprints) < FEWEST_COMPARED:
        return _give_up(findings, f"fewer than {FEWEST_COMPARED} fingerprints tell too little")
    if values > _MOST_VALUES:
        return _give_up(findings, f"snapshots have more than {_MOST_VALUES} numbers")
    rows = _draw(random, len(fingerprints), int(np.clip(_VALUES_COMPARED // values, FEWEST_COMPARED, _MOST_COMPARED)))
    csi, positions = fingerprints.csi[rows], fingerprints.positions[rows]
    findings += _check_signal(csi, positions, cell, len(fingerprints))
    verdict = judge_order(csi, positions, cell)
    response = judge_response(csi)
    if response.response != "good":
        findings.append(describe_response(response))
        return Plausibility(findings, verdict.bearing, positions_unjudged="the CSI must be right first")
    findings += describe_order(verdict, cell)
    if verdict.order != "good":
        return Plausibility(findings, verdict.bearing, _explain_silence(verdict), _explain_positions(verdict))
    units = judge_units(csi, positions, cell)
    if units.unit is None:
        reason = "east and north fit bearings, but delays tell no units: clocks differ, or few users are in sight"
        return Plausibility(findings, verdict.bearing, positions_unjudged=reason)
    findings += describe_units(units)
    return Plausibility(findings, verdict.bearing)


def _give_up(findings: list[Finding], reason: str) -> Plausibility:
    return Plausibility(findings, unjudged=reason, positions_unjudged=reason)


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
            "give metres east and north; name degrees latitudes_deg and longitudes_deg, or state --units deg",
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


def _explain_silence(verdict: OrderVerdict) -> str | None:
    """Why there is no verdict on the order of the CSI."""
    if verdict.order != "unknown":
        return None
    if verdict.bearing is None:
        return "an array of one column has no bearing"
    return "no order of the CSI makes the strongest paths come from the positions, as without line of sight"


def _explain_positions(verdict: OrderVerdict) -> str:
    """Why there is no verdict on the units of positions, nor on east and north."""
    if verdict.order != "unknown":
        return "bearings must fit the positions first"
    if verdict.bearing is None:
        return "without bearings, wrong units or exchanged east and north do not show"
    return (
        "bearings do not fit: users are out of sight, the base station is not at 0,0 of the positions (convert: "
        "--origin), or east and north are exchanged; wrong units would not show"
    )
