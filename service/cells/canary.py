"""Whether a new version of a cell is fit to serve, asked of its own fingerprints before it is published.

Some of them are located as users without a coarse position would be, each left out in its turn: a version is refused
whose errors are far larger than those of the one it replaces. And of what was added, those that lie among fingerprints
of the version before are located by that one: a survey that is shifted as a whole agrees with itself, but not with it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.cells.calibration import Calibration
from service.cells.label_errors import label_errors
from service.errors import ArtifactRefused, EstimateNotFinite, VersionRefused
from service.inference.estimator import Estimator

QUALITY_KEY = "canary"

SAMPLES = 64
# How much larger than before a median error may be: times and, because small ones are noisy, metres.
_TIMES, _BESIDE_M = 2.0, 0.5
# Of two surveys of the same streets each has errors of its own, and streets change.
_SHIFT_TIMES, _SHIFT_BESIDE_M = 3.0, 1.0
_FEWEST_SHIFTED = 8
# Of 64 users each inside a circle with 95 % this many are outside with less than 2 %.
_MOST_OUTSIDE = 8
_GROWN = 1.2  # a calibration is worth measuring again when the cell has grown, or shrunk, by so much


class Canary(NamedTuple):
    """Median errors in metres: of fingerprints left out, and of added ones located by the version before.

    `errors` `[samples]` metres are the former's; the latter are None where too few lie among old ones.
    """

    errors: NDArray[np.float64]
    shift: float | None

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    def as_quality(self) -> dict[str, dict[str, float | int | None]]:
        return {QUALITY_KEY: {"samples": len(self.errors), "median": self.median, "shift": self.shift}}

    def check(self, before: Calibration | None) -> None:
        """Raises `VersionRefused` where the errors are far larger than they were before."""
        if before is None:
            return
        usual = before.level(None).median
        if complaint := _complaint(self.median, usual):
            raise VersionRefused(complaint)
        if self.shift is not None and self.shift > _SHIFT_TIMES * usual + _SHIFT_BESIDE_M:
            raise VersionRefused(
                f"what is added lies {self.shift:.2f} m (median) from where the version before puts it, "
                f"whose usual error is {usual:.2f} m"
            )

    def agrees(self, calibration: Calibration, fingerprints: int) -> bool:
        """Whether radii measured on an earlier version still hold for one of so many fingerprints."""
        outside = int((self.errors > calibration.level(None).radius).sum())
        grown = max(fingerprints, 1) / max(calibration.fingerprints, 1)
        return outside <= _MOST_OUTSIDE and 1 / _GROWN <= grown <= _GROWN


def check_no_worse(before: Calibration, after: Calibration) -> None:
    """Raises `ArtifactRefused` where a cell's users would be located far worse by another artifact than before."""
    if complaint := _complaint(after.level(None).median, before.level(None).median):
        raise ArtifactRefused(complaint)


def run_canary(estimator: Estimator, version: CellVersion, before: CellVersion | None, seed: int) -> Canary:
    """Locates a sample of a version's fingerprints, the same for the same `seed`. Takes a second.

    Raises `InferenceFailed` or `EstimateNotFinite`.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(version), min(SAMPLES, len(version)), replace=False))
    errors = _errors(estimator, version, version, rows, left_out=True)
    shift = None
    if before is not None:
        added = np.flatnonzero(~np.isin(version.ids, before.ids))
        if len(added):
            added = random.permutation(added)[: 4 * SAMPLES]
            away = before.index.nearest(version.positions[added], 1)[1][:, 0]
            among = np.sort(added[away <= before.references.knn_bandwidth][:SAMPLES])
            if len(among) >= _FEWEST_SHIFTED:
                shift = float(np.median(_errors(estimator, before, version, among, left_out=False)))
    return Canary(errors, shift)


def _complaint(median: float, usual: float) -> str | None:
    """Of a median error (metres) far larger than the usual one."""
    if median <= _TIMES * usual + _BESIDE_M:
        return None
    return f"its own fingerprints are located with a median error of {median:.2f} m, before {usual:.2f} m"


def _errors(
    estimator: Estimator, references: CellVersion, version: CellVersion, rows: NDArray[np.int64], *, left_out: bool
) -> NDArray[np.float64]:
    errors = label_errors(estimator, references, version, rows, left_out=left_out)
    if not np.isfinite(errors).all():
        raise EstimateNotFinite("the network cannot locate the cell's own fingerprints")
    return errors
