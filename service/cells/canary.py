"""The canary: tests a new version of a cell on its own fingerprints before the version is published.

A sample of the fingerprints is located without a coarse position, each left out of its own neighbourhood. A version
is refused when its median error is far larger than that of the version before. Added fingerprints that lie among
fingerprints of the version before are also located by that version: this finds a survey that is shifted as a whole,
which agrees with itself.

The same sample tests the calibration that the new version would take over from an earlier one: an exact one-sided
binomial test of the number of fingerprints outside their circle.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.cells.calibration import Calibration, check_finite, label_errors
from service.errors import VersionRefused
from service.inference.estimator import Estimator

QUALITY_KEY = "canary"

# Where the cell has so many. They catch a circle that holds 90 % instead of 95 % in 86 % of the cases.
SAMPLES = 200
_SHIFT_SAMPLES = 64
# The largest median error accepted: a multiple of the usual one plus, because small medians are noisy, some metres.
_FACTOR, _MARGIN_M = 2.0, 0.5
# Wider for the shift: two surveys of one street have independent errors, and streets change.
_SHIFT_FACTOR, _SHIFT_MARGIN_M = 3.0, 1.0
_FEWEST_SHIFTED = 8
# How often a circle that holds exactly the stated share of users is refused. A refusal costs a calibration: seconds.
_LEVEL = 0.05


class Canary(NamedTuple):
    """The result of a canary.

    `errors` float64 `[samples]` metres, of fingerprints left out. `shift`: median distance in metres between the labels
    of added fingerprints and their estimates by the version before; None when too few lie among old fingerprints.
    """

    errors: NDArray[np.float64]
    shift: float | None

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    def as_quality(self) -> dict[str, dict[str, float | int | None]]:
        """Returns the entry of a manifest's quality report."""
        return {QUALITY_KEY: {"samples": len(self.errors), "median": self.median, "shift": self.shift}}

    def check(self, before: Calibration | None) -> None:
        """Raises `VersionRefused` when the errors are far larger than those of the version before."""
        if before is None:
            return
        usual = before.level(None).median
        if self.median > _FACTOR * usual + _MARGIN_M:
            raise VersionRefused(
                f"the median error on the cell's own fingerprints rises from {usual:.2f} m to {self.median:.2f} m"
            )
        if self.shift is not None and self.shift > _SHIFT_FACTOR * usual + _SHIFT_MARGIN_M:
            raise VersionRefused(
                f"the added fingerprints lie {self.shift:.2f} m (median) from where the current version locates them; "
                f"its usual median error is {usual:.2f} m"
            )

    def agrees(self, calibration: Calibration) -> bool:
        """Whether the circles of an earlier version may hold the stated share of this version's users."""
        outside = int((self.errors > calibration.level(None).radius).sum())
        return outside < fewest_outside(len(self.errors), calibration.confidence)


@cache
def fewest_outside(samples: int, confidence: float) -> int:
    """Returns the fewest of `samples` users outside their circle that show that it holds less than `confidence`.

    When the circle holds exactly `confidence`, at least as many lie outside with a probability of at most 5 %.
    """
    inside, outside = math.log(confidence), math.log1p(-confidence)
    below = 0.0
    for count in range(samples + 1):
        if 1 - below <= _LEVEL:
            return count
        combinations = math.lgamma(samples + 1) - math.lgamma(count + 1) - math.lgamma(samples - count + 1)
        below += math.exp(combinations + count * outside + (samples - count) * inside)
    return samples + 1


def run_canary(estimator: Estimator, version: CellVersion, before: CellVersion | None, seed: int) -> Canary:
    """Locates a sample of a version's fingerprints. Takes seconds.

    The same version and `seed` give the same sample; another version and the calibration of this one have another.
    Raises `InferenceFailed`, `OutOfMemory` or `EstimateNotFinite`.
    """
    random = np.random.default_rng([seed, version.manifest.number])
    rows = np.sort(random.choice(len(version), min(SAMPLES, len(version)), replace=False))
    errors = label_errors(estimator, version, version, rows, left_out=True)
    check_finite(errors)
    shift = None
    if before is not None:
        added = np.flatnonzero(~np.isin(version.ids, before.ids))
        if len(added):
            added = random.permutation(added)[: 4 * _SHIFT_SAMPLES]
            away = before.index.nearest(version.positions[added], 1)[1][:, 0]
            among = np.sort(added[away <= before.references.knn_bandwidth][:_SHIFT_SAMPLES])
            if len(among) >= _FEWEST_SHIFTED:
                shifts = label_errors(estimator, before, version, among, left_out=False)
                check_finite(shifts)
                shift = float(np.median(shifts))
    return Canary(errors, shift)
