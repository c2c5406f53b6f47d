"""Calibration: split-conformal error radii, measured on a cell's own fingerprints.

A sample of fingerprints is located as users are, each left out of its own neighbourhood: once for each accuracy of a
coarse position, with noise of that accuracy added to the known position, and once without a coarse position. A user
drawn from the same distribution as the fingerprints then lies within the conformal quantile of these errors with at
least the stated confidence, for any model and any distribution of errors.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.artifact import MateformerArtifact, fewest_for_radius
from reference_db.cell_version import CellVersion
from reference_db.manifest import Manifest
from service import errors
from service.inference.estimator import RETRIEVAL, Estimator, Retrieval
from service.inference.plausibility import PlausibilityLimits, measure_limits
from service.settings import Settings

QUALITY_KEY = "calibration"

# A calibration expires when more than this share of its fingerprints has been added or removed. Time does not matter:
# the same fingerprints give the same errors at any time.
_MOST_CHANGED = 0.2

AT_ONCE = 8  # fingerprints a run of the model: longer runs would delay users


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)


class CalibrationLevel(_Stored):
    """Errors in metres at one accuracy of the coarse position.

    `sigma` is its 1-sigma error on each axis in metres; None: no coarse position. `radius` is the conformal quantile.
    """

    sigma: float | None
    radius: float
    mean: float
    median: float
    p95: float


class Calibration(_Stored):
    """Errors of one cell with one artifact.

    `levels` are in rising order of sigma; the level without a coarse position is last. Stored manifests and HTTP
    answers call them "rungs". `version` is the number of the version that was measured, and `fingerprints` its size;
    `changed` counts the fingerprints added and removed since. `version` is None in calibrations that were stored
    before there was this field. `limits` is what honest users keep to.
    """

    artifact: str
    retrieval: Retrieval
    confidence: float
    samples: int
    seed: int
    fingerprints: int
    version: int | None = None
    changed: int = 0
    levels: list[CalibrationLevel] = Field(validation_alias="rungs", serialization_alias="rungs", min_length=1)
    # None: calibrated before there were limits.
    limits: PlausibilityLimits | None = Field(None, exclude_if=lambda limits: limits is None)

    def level(self, accuracy: float | None) -> CalibrationLevel:
        """Returns the first level whose sigma is at least `accuracy` (1-sigma error in metres), else the last level."""
        for level in self.levels:
            if level.sigma is not None and accuracy is not None and level.sigma >= accuracy:
                return level
        return self.levels[-1]

    def after_change(self, changed: int) -> Self:
        """Returns the same calibration for a version in which `changed` more fingerprints are new or gone."""
        return self.model_copy(update={"changed": self.changed + changed})

    @property
    def expired(self) -> bool:
        """Whether too many fingerprints have changed since it was measured, or it does not say since when."""
        return self.version is None or self.changed > _MOST_CHANGED * self.fingerprints

    def as_quality(self, artifact_digest: str) -> dict[str, Any]:
        """Returns the entry of a manifest's quality report, under the artifact's digest."""
        return {QUALITY_KEY: {artifact_digest: self.model_dump(by_alias=True)}}

    @classmethod
    def all_of_quality(cls, quality: Mapping[str, Any]) -> list[Self]:
        """Returns the calibrations that a quality report holds for any artifact; skips unreadable ones."""
        named = quality.get(QUALITY_KEY)
        digests = named if isinstance(named, dict) else {}
        return [found for digest in digests if (found := cls.of_quality(quality, digest))]

    @classmethod
    def of_quality(cls, quality: Mapping[str, Any], artifact_digest: str) -> Self | None:
        """Returns the calibration for this artifact; None where it is missing or unreadable."""
        try:
            return cls.model_validate(quality[QUALITY_KEY][artifact_digest])
        except (KeyError, TypeError, ValidationError):
            return None


def conformal_quantile(sample: NDArray[np.floating], confidence: float) -> float:
    """Returns the ceil((n + 1) · confidence)-th smallest of n values; infinite when n is too small for a bound."""
    rank = conformal_rank(len(sample), confidence)
    return math.inf if rank > len(sample) else float(np.sort(sample)[rank - 1])


def conformal_rank(n: int, confidence: float) -> int:
    """Returns ceil((n + 1) · confidence)."""
    # The tolerance keeps 0.95 · 20 at 19: in binary the product is slightly larger.
    return math.ceil((n + 1) * confidence - 1e-9)


def check_serves(artifact: MateformerArtifact, version: Manifest, confidence: float) -> None:
    """Checks that the artifact can locate users in a cell and that the cell can be calibrated.

    Raises `ModelNotAllowed` when the cell's model policy excludes Mateformer, `CellNotServed` when its array or number
    of subcarriers is outside the ranges that the artifact was trained on, `BandNotServed` when its bandwidth or carrier
    is, or `CellTooSmall`.
    """
    if version.model not in ("auto", artifact.manifest.family):
        advice = ": send a trajectory, or snapshots with a trackId" if version.model == "scadf-moe" else ""
        raise errors.ModelNotAllowed("/cellId", f"the cell's model policy is {version.model}{advice}")
    radios = artifact.manifest.csi
    if reason := radios.reason_against_shape(version.cell):
        raise errors.CellNotServed("/cellId", reason)
    if reason := radios.reason_against_band(version.cell):
        raise errors.BandNotServed("/cellId", reason)
    needed = artifact.manifest.fewest_fingerprints(confidence)
    if version.fingerprints < needed:
        raise errors.CellTooSmall("/cellId", f"the cell has {version.fingerprints} fingerprints, it needs {needed}")


def calibrate(
    artifact: MateformerArtifact, estimator: Estimator, version: CellVersion, settings: Settings
) -> Calibration:
    """Calibrates a cell on a sample of its own fingerprints. Takes seconds. Runs on the background session.

    Raises what `check_serves` raises, `InferenceFailed`, `OutOfMemory` or `EstimateNotFinite`.
    """
    check_serves(artifact, version.manifest, settings.confidence)
    rows, blur = _draw_sample(version, settings)
    levels = [
        _calibrate_level(estimator, version, rows, blur, sigma, settings.confidence)
        for sigma in (*sorted(settings.calibration_sigmas_m), None)
    ]
    manifest = artifact.manifest
    return Calibration(
        artifact=f"{manifest.name} {manifest.version}",
        retrieval=RETRIEVAL,
        confidence=settings.confidence,
        samples=len(rows),
        seed=settings.calibration_seed,
        fingerprints=len(version),
        version=version.manifest.number,
        levels=levels,
        limits=measure_limits(version, rows),
    )


def with_limits(calibration: Calibration, version: CellVersion, settings: Settings) -> Calibration:
    """The calibration with limits, measured now if it has none. Takes a fraction of a second."""
    if calibration.limits is not None:
        return calibration
    return calibration.model_copy(update={"limits": measure_limits(version, _draw_sample(version, settings)[0])})


def _draw_sample(version: CellVersion, settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of fingerprints `[n]`, and standard normal errors of their coarse positions `[n, 2]`."""
    rng = np.random.default_rng(settings.calibration_seed)
    samples = min(max(settings.calibration_samples, fewest_for_radius(settings.confidence)), len(version))
    rows = np.sort(rng.choice(len(version), samples, replace=False))
    return rows, rng.standard_normal((samples, 2)).astype(np.float32)


def _calibrate_level(
    estimator: Estimator,
    version: CellVersion,
    rows: NDArray[np.int64],
    blur: NDArray[np.float32],
    sigma: float | None,
    confidence: float,
) -> CalibrationLevel:
    coarse = None if sigma is None else version.positions[rows] + np.float32(sigma) * blur
    distances = label_errors(estimator, version, version, rows, left_out=True, coarse=coarse, sigma=sigma)
    check_finite(distances)
    return CalibrationLevel(
        sigma=sigma,
        radius=conformal_quantile(distances, confidence),
        mean=float(distances.mean()),
        median=float(np.median(distances)),
        p95=float(np.quantile(distances, 0.95)),
    )


def label_errors(
    estimator: Estimator,
    references: CellVersion,
    version: CellVersion,
    rows: NDArray[np.int64],
    *,
    left_out: bool,
    coarse: NDArray[np.float32] | None = None,
    sigma: float | None = None,
) -> NDArray[np.float64]:
    """Distances in metres, float64 `[n]`, between labels and estimates of fingerprints; NaN where there is no estimate.

    Locates the fingerprints `rows` int64 `[n]` of `version` as users among the fingerprints of `references`. `left_out`
    leaves each out of its own neighbourhood; both versions must then be the same. `coarse` float32 `[n, 2]` metres are
    coarse positions with a 1-sigma error of `sigma` metres on each axis. Blocking. Runs on the background session.
    Raises `InferenceFailed` or `OutOfMemory`.
    """
    if coarse is None:
        coarse = np.full((len(rows), 2), np.nan, np.float32)
    accuracy = np.full(len(rows), np.nan if sigma is None else sigma, np.float32)
    found = np.empty((len(rows), 2), np.float32)
    for first in range(0, len(rows), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        users = (version.csi_of(rows[some]), coarse[some], accuracy[some])
        found[some] = estimator.locate_in_background(references, *users, rows[some] if left_out else None)
    errors_m: NDArray[np.float64] = np.linalg.norm(found.astype(np.float64) - version.positions[rows], axis=1)
    return errors_m


def check_finite(errors_m: NDArray[np.float64]) -> None:
    """Raises `EstimateNotFinite` unless every error is finite."""
    if not np.isfinite(errors_m).all():
        raise errors.EstimateNotFinite("the model has no answer for some of the cell's own fingerprints")
