"""Describes a survey in a few numbers: where and when it was measured, how dense and how telling it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion, Extent
from reference_db.errors import TooFewFingerprints
from reference_db.fingerprints import Fingerprints
from reference_db.half_csi import as_complex
from reference_db.index.position import PositionIndex
from reference_db.index.signal_features import signal_feature
from reference_db.retrieval import LeftOut, first_guess

_PLACE_M = 0.01  # positions closer than this are one place
_MEASURED = 4096  # places and snapshots that a median is taken of
_LOCATED = 200  # fingerprints that are left out and located
_AT_ONCE = 64
_FEWEST_LOCATED = 16


class SurveyFacts(NamedTuple):
    """What fingerprints say of themselves.

    `spacing` is the median distance in metres from a place to the nearest other one, `measured` the oldest and the
    newest known time in Unix seconds, `sigma` the median label error in metres, `level_db` the median mean power of a
    snapshot. Each is None where it is unknown.
    """

    extent: Extent | None
    spacing: float | None
    measured: tuple[float, float] | None
    sigma: float | None
    level_db: float | None


class LeaveOneOutErrors(NamedTuple):
    """Errors in metres of `users` fingerprints; `chance`: the median distance between two random places."""

    users: int
    median: float
    p90: float
    chance: float


def describe_survey(fingerprints: Fingerprints) -> SurveyFacts:
    """The facts of fingerprints that need not have passed `check_fingerprints`: rows at fault are skipped."""
    positions = fingerprints.positions[np.isfinite(fingerprints.positions).all(axis=1)]
    times = fingerprints.times[np.isfinite(fingerprints.times) & (fingerprints.times > 0)]
    sigmas = fingerprints.sigmas[np.isfinite(fingerprints.sigmas)]
    step = max(1, len(fingerprints) // _MEASURED)
    with np.errstate(over="ignore", invalid="ignore"):
        csi = fingerprints.csi[::step].astype(np.complex128)
        power = np.mean(csi.real**2 + csi.imag**2, axis=(1, 2))
    power = power[np.isfinite(power) & (power > 0)]
    low, high = (positions.min(axis=0), positions.max(axis=0)) if len(positions) else ((), ())
    return SurveyFacts(
        extent=Extent(*map(float, (*low, *high))) if len(positions) else None,
        spacing=_measure_spacing(positions),
        measured=(float(times.min()), float(times.max())) if len(times) else None,
        sigma=float(np.median(sigmas)) if len(sigmas) else None,
        level_db=float(10 * np.log10(np.median(power))) if len(power) else None,
    )


def measure_leave_one_out(
    version: CellVersion, witnesses: NDArray[np.int64], among: NDArray[np.int64]
) -> LeaveOneOutErrors | None:
    """Locates a sample of the fingerprints `among` by weighted kNN, each without those of its own witness.

    `witnesses` int64 `[n]` numbers the witness of each fingerprint. No coarse position is used. None where there are
    too few fingerprints. Takes a second.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(among)[:_LOCATED])
    if len(rows) < _FEWEST_LOCATED:
        return None
    left_out = LeftOut(witnesses, witnesses[rows])
    found = []
    try:
        for some in np.array_split(np.arange(len(rows)), range(_AT_ONCE, len(rows), _AT_ONCE)):
            features = signal_feature(as_complex(version.csi_of(rows[some])))
            nowhere = np.full((len(some), 2), np.nan, np.float32)
            found.append(first_guess(version.references, features, nowhere, nowhere[:, 0], left_out.taken(some)))
    except TooFewFingerprints:  # of one place only
        return None
    true = version.positions[rows]
    errors = np.linalg.norm(np.concatenate(found) - true, axis=1)
    others = version.positions[random.integers(0, len(version), len(rows))]
    chance = np.linalg.norm(others - true, axis=1)
    return LeaveOneOutErrors(
        len(rows), float(np.median(errors)), float(np.quantile(errors, 0.9)), float(np.median(chance))
    )


def _measure_spacing(positions: NDArray[np.float32]) -> float | None:
    places = np.unique(np.round(positions.astype(np.float64) / _PLACE_M), axis=0) * _PLACE_M
    if len(places) < 2:
        return None
    index = PositionIndex(places.astype(np.float32))
    some = index.positions[:: max(1, len(places) // _MEASURED)]
    return float(np.median(index.nearest(some, 2)[1][:, 1]))
