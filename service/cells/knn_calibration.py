"""How far weighted kNN errs in a cell, measured on the cell's own fingerprints.

One fingerprint of each of a sample of places is located as users are, without any fingerprint of its own place
(`stretches`): once for each accuracy of a coarse position, and once without. The residuals around an estimate give its
covariance, and the Mahalanobis distances of all of them its conformal scales.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.artifact import Scales, fewest_for_radius
from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import signal_feature
from reference_db.manifest import Manifest
from reference_db.retrieval import LeftOut, first_guess
from service import errors
from service.cells.residuals import left_out_covariances, lie_along_lines, local_covariances, mahalanobis
from service.cells.witnesses import draw_first_of_each, measure_own_users, witnesses_of
from service.inference.belonging import Belonging
from service.inference.plausibility import PlausibilityLimits, measure_limits
from service.settings import Settings

_AT_ONCE = 64  # fingerprints located together

_Rows = NDArray[np.int64]


class KnnLevel(NamedTuple):
    """Errors at one accuracy of the coarse position; None: no coarse position.

    `sigma` is its 1-sigma error on each axis in metres. `residuals` and the estimates' `places` are `[n, 2]`, metres;
    `along` `[n]` marks those that fingerprints along a line left.
    """

    sigma: float | None
    residuals: NDArray[np.float64]
    places: NDArray[np.float64]
    along: NDArray[np.bool_]
    scales: Scales

    def covariance(self, position: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of the error of an estimate at `position` `[2]`: `[2, 2]` in square metres."""
        found: NDArray[np.float64] = local_covariances(self.residuals, self.places, position[np.newaxis], self.along)[0]
        return found


class KnnCalibration(NamedTuple):
    """`levels` are in rising order of sigma; the level without a coarse position is last."""

    levels: tuple[KnnLevel, ...]
    limits: PlausibilityLimits
    belonging: Belonging

    @classmethod
    def measure(cls, version: CellVersion, settings: Settings) -> Self:
        """Calibrates a cell on a sample of its own fingerprints. Blocking: about a second. For any thread.

        Raises `CellTooSmall` where the fingerprints are of too few places.
        """
        witnesses = witnesses_of(version)
        rng = np.random.default_rng(settings.calibration_seed)
        rows = draw_first_of_each(witnesses, settings.calibration_samples, rng)
        needed = fewest_for_radius(settings.confidence)
        if len(rows) < needed:
            raise errors.CellTooSmall(
                "/cellId", f"the cell has fingerprints of {len(rows)} places, weighted kNN needs {needed}"
            )
        features = np.concatenate([signal_feature(as_complex(version.csi_of(some))) for some in _parts(rows)])
        blur = rng.standard_normal((len(rows), 2)).astype(np.float32)
        levels = (
            _measure_level(version, rows, features, blur, sigma, LeftOut(witnesses, witnesses[rows]))
            for sigma in (*sorted(settings.calibration_sigmas_m), None)
        )
        limits = measure_limits(version, rows, LeftOut(witnesses, witnesses[rows]))
        return cls(tuple(levels), limits, measure_own_users(version, 1, rng))

    def level(self, accuracy: float | None) -> KnnLevel:
        """The first level whose sigma is at least `accuracy` (1-sigma error in metres), else the last level."""
        for level in self.levels:
            if level.sigma is not None and accuracy is not None and level.sigma >= accuracy:
                return level
        return self.levels[-1]


def check_compares(version: Manifest, confidence: float) -> None:
    """Checks that weighted kNN may locate users of a cell, as far as a manifest tells.

    Raises `ModelNotAllowed` where the cell's model policy wants no comparison with fingerprints, or `CellTooSmall`.
    """
    if version.model not in ("auto", "mateformer"):
        reason = f"the cell's model policy is {version.model}: users are not compared with fingerprints"
        raise errors.ModelNotAllowed("/cellId", reason)
    needed = fewest_for_radius(confidence)
    if version.fingerprints < needed:
        raise errors.CellTooSmall(
            "/cellId", f"the cell has {version.fingerprints} fingerprints, weighted kNN needs {needed}"
        )


def _measure_level(
    version: CellVersion,
    rows: _Rows,
    features: NDArray[np.float32],
    blur: NDArray[np.float32],
    sigma: float | None,
    left_out: LeftOut,
) -> KnnLevel:
    true = version.positions[rows]
    coarse = np.full_like(true, np.nan) if sigma is None else true + np.float32(sigma) * blur
    accuracy = np.full(len(rows), np.nan if sigma is None else sigma, np.float32)
    found = np.concatenate(
        [
            first_guess(version.references, features[i], coarse[i], accuracy[i], left_out.taken(i))
            for i in _parts(np.arange(len(rows)))
        ]
    ).astype(np.float64)
    residuals = found - true
    along = lie_along_lines(version.positions, left_out.witnesses)[rows]
    scales = Scales.of_distances(mahalanobis(residuals, left_out_covariances(residuals, found, along)))
    assert scales is not None  # there is more than one residual
    return KnnLevel(sigma, residuals, found, along, scales)


def _parts(rows: _Rows) -> list[_Rows]:
    return np.array_split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
