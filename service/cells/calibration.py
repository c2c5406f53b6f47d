"""How far an estimate may be off: split-conformal radii, measured on a cell's own fingerprints.

Each fingerprint of a sample is located as a user would be, itself left out, with its position blurred to the
accuracy of a coarse position, and once with none. A user drawn like the fingerprints then lies inside the conformal
quantile of those errors with at least the stated confidence, whatever the network and the errors' distribution.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from reference_db.cell_version import CellVersion
from reference_db.manifest import Manifest
from service import errors
from service.inference.estimator import RETRIEVAL, Estimator, Retrieval
from service.settings import Settings

QUALITY_KEY = "calibration"

_AT_ONCE = 8  # fingerprints: users must not wait long for the network while a cell is calibrated


class CalibrationLevel(msgspec.Struct, frozen=True):
    """Errors in metres at one accuracy of the coarse position (`sigma`, metres on each axis; None: without one)."""

    sigma: float | None
    radius: float
    mean: float
    median: float
    p95: float


class Calibration(msgspec.Struct, frozen=True):
    """One cell's errors with one artifact; `rungs` in rising order of sigma, the one without a coarse position last.

    `fingerprints` is how many the cell had when it was measured.
    """

    artifact: str
    retrieval: Retrieval
    confidence: float
    samples: int
    seed: int
    fingerprints: int
    rungs: Annotated[list[CalibrationLevel], msgspec.Meta(min_length=1)]

    def level(self, accuracy: float | None) -> CalibrationLevel:
        """The first level that covers a coarse position of this 1-sigma error, or none; else the last one."""
        for level in self.rungs:
            if level.sigma is not None and accuracy is not None and level.sigma >= accuracy:
                return level
        return self.rungs[-1]

    def as_quality(self, artifact_digest: str) -> dict[str, Any]:
        """As it stands in a manifest's quality, under the artifact's digest."""
        return {QUALITY_KEY: {artifact_digest: msgspec.to_builtins(self)}}

    @classmethod
    def all_of_quality(cls, quality: Mapping[str, Any]) -> list[Self]:
        """What a manifest says of any artifact."""
        named = quality.get(QUALITY_KEY)
        digests = named if isinstance(named, dict) else {}
        return [found for digest in digests if (found := cls.of_quality(quality, digest))]

    @classmethod
    def of_quality(cls, quality: Mapping[str, Any], artifact_digest: str) -> Self | None:
        """What a manifest says of this artifact; None where it says nothing that can be read."""
        try:
            return msgspec.convert(quality[QUALITY_KEY][artifact_digest], cls)
        except (KeyError, TypeError, msgspec.ValidationError):
            return None


def conformal_quantile(sample: NDArray[np.floating], confidence: float) -> float:
    """The ceil((n + 1) · confidence)-th smallest of n values; infinite where n is too small for any bound."""
    rank = conformal_rank(len(sample), confidence)
    return math.inf if rank > len(sample) else float(np.sort(sample)[rank - 1])


def conformal_rank(n: int, confidence: float) -> int:
    # The tolerance keeps 0.95 · 20 at 19 where binary fractions make it a hair more.
    return math.ceil((n + 1) * confidence - 1e-9)


def check_serves(artifact: Artifact, version: Manifest, confidence: float) -> None:
    """Raises `CellNotServed` or `CellTooSmall` unless the artifact can locate users and say how well.

    Raises `ModelNotAllowed` where the cell's policy is that it must not.
    """
    cell, csi = version.cell, artifact.manifest.csi
    if version.model == "scadf-moe":
        raise errors.ModelNotAllowed(
            "/cellId", "the cell's policy is scadf-moe: it takes a trajectory, or a trackId and some snapshots"
        )
    if (cell.antennas, cell.subcarriers) != (csi.antennas, csi.subcarriers):
        raise errors.CellNotServed(
            "/cellId",
            f"the cell's CSI is {cell.antennas} x {cell.subcarriers}, "
            f"the artifact's {csi.antennas} x {csi.subcarriers} (antennas x subcarriers)",
        )
    needed = artifact.manifest.minimum_neighbours
    while conformal_rank(needed, confidence) > needed:
        needed += 1
    if version.fingerprints < needed:
        raise errors.CellTooSmall("/cellId", f"the cell has {version.fingerprints} fingerprints, {needed} are needed")


def calibrate(artifact: Artifact, estimator: Estimator, version: CellVersion, settings: Settings) -> Calibration:
    """Locates a sample of the cell's own fingerprints. Takes seconds.

    Raises what `check_serves` raises, `InferenceFailed` or `EstimateNotFinite`.
    """
    check_serves(artifact, version.manifest, settings.confidence)
    rng = np.random.default_rng(settings.calibration_seed)
    samples = min(max(settings.calibration_samples, _fewest(settings.confidence)), len(version))
    rows = np.sort(rng.choice(len(version), samples, replace=False))
    blur = rng.standard_normal((samples, 2)).astype(np.float32)
    rungs = [
        _calibrate_level(estimator, version, rows, blur, sigma, settings.confidence)
        for sigma in (*sorted(settings.calibration_sigmas_m), None)
    ]
    manifest = artifact.manifest
    return Calibration(
        artifact=f"{manifest.name} {manifest.version}",
        retrieval=RETRIEVAL,
        confidence=settings.confidence,
        samples=samples,
        seed=settings.calibration_seed,
        fingerprints=len(version),
        rungs=rungs,
    )


def _calibrate_level(
    estimator: Estimator,
    version: CellVersion,
    rows: NDArray[np.int64],
    blur: NDArray[np.float32],
    sigma: float | None,
    confidence: float,
) -> CalibrationLevel:
    truth = version.positions[rows]
    error = np.float32(np.nan if sigma is None else sigma)
    coarse, accuracy = truth + error * blur, np.full(len(rows), error)
    found = np.empty_like(truth)
    for first in range(0, len(rows), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        csi = version.csi_of(rows[some])
        found[some] = estimator.positions(version, csi, coarse[some], accuracy[some], left_out=rows[some])
    distances = np.linalg.norm(found.astype(np.float64) - truth, axis=1)
    if not np.isfinite(distances).all():
        raise errors.EstimateNotFinite("the network cannot locate the cell's own fingerprints")
    return CalibrationLevel(
        sigma=sigma,
        radius=conformal_quantile(distances, confidence),
        mean=float(distances.mean()),
        median=float(np.median(distances)),
        p95=float(np.quantile(distances, 0.95)),
    )


def _fewest(confidence: float) -> int:
    n = 1
    while conformal_rank(n, confidence) > n:
        n += 1
    return n
