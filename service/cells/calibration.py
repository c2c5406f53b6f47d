"""Calibration: how far users are off and how strange their CSI is, measured on a cell's own fingerprints.

A sample of fingerprints is located as users are, each without its own witness: once for each accuracy of a coarse
position, with noise of that accuracy added to the known position, and once without a coarse position; as measured, and
with noise added to the CSI. A user drawn from the same distribution as the fingerprints then lies within the conformal
quantile of these errors with at least the stated confidence, for any model and any distribution of errors.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.artifact import MateformerArtifact, conformal_rank, fewest_for_radius
from reference_db.cell_version import CellVersion
from reference_db.manifest import Manifest
from reference_db.retrieval import LeftOut
from service import errors
from service.cells.ellipses import CalibratedUsers, EllipseLevel, Ellipses, make_ellipses, measure_level
from service.cells.residuals import lie_along_lines
from service.cells.witnesses import draw_fingerprints, leave_out, measure_own_users, witnesses_of
from service.inference.belonging import Belonging, NoisyCsi
from service.inference.estimator import RETRIEVAL, Estimator, Retrieval
from service.inference.plausibility import PlausibilityLimits, measure_limits
from service.settings import Settings

QUALITY_KEY = "calibration"

# A calibration expires when more than this share of its fingerprints has been added or removed. Time does not matter:
# the same fingerprints give the same errors at any time.
_MOST_CHANGED = 0.2

AT_ONCE = 8  # fingerprints located together
_TOGETHER_M = 4.0  # metres: fingerprints this close are located one after the other


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
    limits: PlausibilityLimits
    belonging: Belonging
    ellipses: Ellipses

    def find_level(self, accuracy: float | None) -> int:
        """Which level is the first whose sigma is at least `accuracy` (1-sigma error in metres), else the last."""
        for number, level in enumerate(self.levels):
            if level.sigma is not None and accuracy is not None and level.sigma >= accuracy:
                return number
        return len(self.levels) - 1

    def level(self, accuracy: float | None) -> CalibrationLevel:
        """The level of `find_level`."""
        return self.levels[self.find_level(accuracy)]

    def after_change(self, changed: int) -> Self:
        """Returns the same calibration for a version in which `changed` more fingerprints are new or gone."""
        return self.model_copy(update={"changed": self.changed + changed})

    @property
    def expired(self) -> bool:
        """Whether too many fingerprints have changed since it was measured, or it does not say since when."""
        return self.version is None or self.changed > _MOST_CHANGED * self.fingerprints

    def as_quality(self, artifact_digest: str) -> dict[str, Any]:
        """Returns the entry of a manifest's quality report, under the artifact's digest."""
        return {QUALITY_KEY: {artifact_digest: self.model_dump(mode="json", by_alias=True)}}

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
    """Returns the value of conformal rank among n; infinite when n is too small for a bound."""
    rank = conformal_rank(len(sample), confidence)
    return math.inf if rank > len(sample) else float(np.sort(sample)[rank - 1])


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
    manifest, rng = artifact.manifest, np.random.default_rng(settings.calibration_seed)
    rows = draw_fingerprints(version, max(settings.calibration_samples, fewest_for_radius(settings.confidence)), rng)
    left_out = leave_out(version, rows, manifest.minimum_neighbours)
    belonging = measure_own_users(version, manifest.minimum_neighbours, rng)
    sigmas = (*sorted(settings.calibration_sigmas_m), None)
    located = _locate_left_out(estimator, version, rows, left_out, sigmas, belonging, rng)
    check_finite(located.errors[:, 0])
    along = lie_along_lines(version.positions, witnesses_of(version))[rows]
    levels = [located.level(number, settings.confidence) for number in range(len(sigmas))]
    ellipses = [located.ellipse_level(number, version.positions[rows], along) for number in range(len(sigmas))]
    return Calibration(
        artifact=f"{manifest.name} {manifest.version}",
        retrieval=RETRIEVAL,
        confidence=settings.confidence,
        samples=len(rows),
        seed=settings.calibration_seed,
        fingerprints=len(version),
        version=version.manifest.number,
        levels=levels,
        limits=measure_limits(version, rows, left_out),
        belonging=belonging,
        ellipses=make_ellipses(version.positions[rows], along, ellipses),
    )


class _LocatedLeftOut(NamedTuple):
    """Fingerprints located as users, `[n, s, l, ...]`: n fingerprints, s SNRs (the first as measured), l levels.

    `residuals` and `fixes` (coarse position minus label, NaN without one) in metres.
    """

    sigmas: tuple[float | None, ...]
    snrs_db: tuple[float, ...]
    residuals: NDArray[np.float64]
    covariances: NDArray[np.float64]
    fixes: NDArray[np.float64]  # [n, l, 2]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Distances in metres `[n, s, l]`."""
        errors: NDArray[np.float64] = np.linalg.norm(self.residuals, axis=-1)
        return errors

    def level(self, number: int, confidence: float) -> CalibrationLevel:
        """The errors at one accuracy of the coarse position, without noise added to the CSI."""
        distances = self.errors[:, 0, number]
        return CalibrationLevel(
            sigma=self.sigmas[number],
            radius=conformal_quantile(distances, confidence),
            mean=float(distances.mean()),
            median=float(np.median(distances)),
            p95=float(np.quantile(distances, 0.95)),
        )

    def ellipse_level(self, number: int, places: NDArray[np.float32], along: NDArray[np.bool_]) -> EllipseLevel:
        sigma = self.sigmas[number]
        users = []
        for snr, snr_db in enumerate(self.snrs_db):
            (answered,) = np.nonzero(np.isfinite(self.errors[:, snr, number]))  # all of them without added noise
            if len(answered):
                residuals, covariances = self.residuals[answered, snr, number], self.covariances[answered, snr, number]
                users.append(CalibratedUsers(snr_db, answered, residuals, covariances))
        apart = None
        if sigma is not None:
            apart = np.linalg.norm(self.fixes[:, number] - self.residuals[:, 0, number], axis=1) / sigma
        return measure_level(places, along, users, apart)


def _locate_left_out(
    estimator: Estimator,
    version: CellVersion,
    rows: NDArray[np.int64],
    left_out: LeftOut,
    sigmas: tuple[float | None, ...],
    belonging: Belonging,
    rng: np.random.Generator,
) -> _LocatedLeftOut:
    """Locates each fingerprint with every coarse position at every SNR, together: most share their neighbourhood."""
    n, labels = len(rows), version.positions[rows]
    accuracy = np.array([np.nan if sigma is None else sigma for sigma in sigmas], np.float32)
    fixes = accuracy[:, np.newaxis] * rng.standard_normal((n, 1, 2), np.float32)  # [n, l, 2]
    snrs_db = [level.snr_db for level in belonging.levels]
    shape = (n, len(snrs_db), len(sigmas))
    residuals, covariances = np.empty((*shape, 2)), np.empty((*shape, 2, 2))
    # Neighbours together: they share the fingerprints that are described for them.
    order = np.lexsort(np.floor(labels / _TOGETHER_M).T)
    noisy = NoisyCsi(tuple(snrs_db[1:]), rng)
    for some in np.array_split(order, range(AT_ONCE, n, AT_ONCE)):
        csi = noisy.variants(version.csi_of(rows[some]))  # [m, s, antennas, subcarriers, 2]
        users = len(some) * len(snrs_db)
        coarse = np.repeat((labels[some, np.newaxis] + fixes[some])[:, np.newaxis], len(snrs_db), axis=1)
        located = estimator.locate_in_background(
            version,
            csi.reshape(users, *csi.shape[2:]),
            coarse.reshape(users, len(sigmas), 2),
            np.broadcast_to(accuracy, (users, len(sigmas))).copy(),
            left_out._replace(own=np.repeat(left_out.own[some], len(snrs_db))),
        )
        found = located.positions.reshape(len(some), *shape[1:], 2).astype(np.float64)
        residuals[some] = found - labels[some, np.newaxis, np.newaxis]
        covariances[some] = located.covariances.reshape(len(some), *shape[1:], 2, 2)
    return _LocatedLeftOut(sigmas, tuple(snrs_db), residuals, covariances, fixes.astype(np.float64))


def label_errors(
    estimator: Estimator,
    references: CellVersion,
    version: CellVersion,
    rows: NDArray[np.int64],
    *,
    left_out: bool,
) -> NDArray[np.float64]:
    """Distances in metres, float64 `[n]`, between labels and estimates of fingerprints; NaN where there is no estimate.

    Locates the fingerprints `rows` int64 `[n]` of `version` as users without a coarse position among the fingerprints
    of `references`. `left_out` compares each without its own witness; both versions must then be the same. Blocking.
    Runs on the background session. Raises `InferenceFailed` or `OutOfMemory`.
    """
    nowhere = np.full((AT_ONCE, 1, 2), np.nan, np.float32)
    out = leave_out(version, rows, estimator.manifest.minimum_neighbours) if left_out else None
    found = np.empty((len(rows), 2), np.float32)
    for first in range(0, len(rows), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        csi, ignored = version.csi_of(rows[some]), None if out is None else out.taken(some)
        coarse = nowhere[: len(csi)]
        found[some] = estimator.locate_in_background(references, csi, coarse, coarse[..., 0], ignored).positions[:, 0]
    errors_m: NDArray[np.float64] = np.linalg.norm(found.astype(np.float64) - version.positions[rows], axis=1)
    return errors_m


def check_finite(errors_m: NDArray[np.float64]) -> None:
    """Raises `EstimateNotFinite` unless every error is finite."""
    if not np.isfinite(errors_m).all():
        raise errors.EstimateNotFinite("the model has no answer for some of the cell's own fingerprints")
