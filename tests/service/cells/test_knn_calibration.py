"""Does the ellipse of weighted kNN hold users who stand elsewhere, whatever the survey looks like?"""

from contextlib import nullcontext

import numpy as np
import pytest

from reference_db import CellVersion, Fingerprints
from reference_db.manifest import ModelPolicy
from service import errors
from service.cells.knn_calibration import KnnCalibration, check_compares
from service.cells.residuals import mahalanobis
from service.inference.knn_estimator import KnnEstimate, KnnEstimator
from service.inference.user import User
from service.settings import Settings
from service.telemetry.stopwatch import Stopwatch
from tests.service.plane_cell import make_cell, street, users_at
from tests.service.tiny_cell import version_of

ANTENNAS = 8
SETTINGS = Settings(calibration_samples=400)


def noisy(positions: np.ndarray, seed: int) -> np.ndarray:
    """CSI at 15 dB SNR, a noise of its own for each snapshot."""
    random, csi = np.random.default_rng(seed), users_at(positions, ANTENNAS)
    power = np.abs(csi).mean(axis=(1, 2), keepdims=True) * 10 ** (-15 / 20) / np.sqrt(2)
    noise = random.standard_normal(csi.shape) + 1j * random.standard_normal(csi.shape)
    return (csi + power * noise).astype(np.complex64)


def survey(positions: np.ndarray, times: np.ndarray | None = None, seed: int = 0) -> CellVersion:
    n = len(positions)
    times = np.zeros(n) if times is None else times
    fingerprints = Fingerprints(noisy(positions, seed), positions, times, np.full(n, 0.05, np.float32))
    return version_of(make_cell("c", ANTENNAS), fingerprints)


def locate(
    version: CellVersion, calibration: KnnCalibration, users: np.ndarray, sigma: float | None, seed: int = 9
) -> list[KnnEstimate]:
    random = np.random.default_rng(seed)
    csi = noisy(users, seed + 1).view(np.float32).reshape(len(users), ANTENNAS, -1, 2)
    fixes = np.full_like(users, np.nan) if sigma is None else users + sigma * random.standard_normal(users.shape)
    accuracy = np.nan if sigma is None else sigma
    asked = [
        User(version, one, fix.astype(np.float32), accuracy, calibration.limits)
        for one, fix in zip(csi, fixes, strict=True)
    ]
    found = KnnEstimator().locate(asked, Stopwatch())
    return [one for one in found if isinstance(one, KnnEstimate)]


def coverage(version: CellVersion, users: np.ndarray, sigma: float | None, confidence: int) -> float:
    calibration = KnnCalibration.measure(version, SETTINGS)
    level, inside = calibration.level(sigma), []
    for user, one in zip(users, locate(version, calibration, users, sigma), strict=True):
        residual = (one.position - user)[np.newaxis].astype(np.float64)
        distance = mahalanobis(residual, level.covariance(one.position)[np.newaxis])
        inside.append(distance[0] <= level.scales.at(confidence).factor)
    return float(np.mean(inside))


@pytest.mark.parametrize("sigma", [None, 1.0, 10.0])
@pytest.mark.parametrize("confidence", [68, 95])
def test_ellipse_holds_the_stated_share_of_users_drawn_like_the_fingerprints(
    sigma: float | None, confidence: int
) -> None:
    held = coverage(survey(street(800, seed=1)), street(500, seed=2), sigma, confidence)
    assert held == pytest.approx(confidence / 100, abs=0.07)


def drive(step: float, lanes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Along so many lanes of the street, one after the other at 10 m/s: positions and times."""
    along = np.arange(-20, 20, step)
    across = np.linspace(35, 65, lanes)
    positions = np.concatenate([np.column_stack([np.full_like(along, lane), along]) for lane in across])
    return positions.astype(np.float32), 1.7e9 + np.arange(len(positions)) * step / 10


@pytest.mark.parametrize("times", ["known", "unknown"])
def test_users_between_the_lanes_of_a_drive_are_inside_their_ellipse(times: str) -> None:
    positions, at = drive(0.1)
    version = survey(positions, at if times == "known" else None)
    users = positions[np.random.default_rng(3).permutation(len(positions))[:300]]
    elsewhere = (users + np.random.default_rng(4).uniform(-1.0, 1.0, users.shape)).astype(np.float32)
    assert coverage(version, elsewhere, None, 95) > 0.9


@pytest.mark.parametrize("snapshots", [2, 30])
def test_users_between_places_with_many_snapshots_each_are_inside_their_ellipse(snapshots: int) -> None:
    places = street(120, seed=1)
    version = survey(np.repeat(places, snapshots, axis=0))
    assert coverage(version, street(400, seed=2), None, 95) > 0.88


def test_neighbours_at_one_place_do_not_count_as_evidence() -> None:
    """Ten times as many snapshots of the same places do not make the stated error smaller by much."""
    places = street(120, seed=1)
    once, often = (KnnCalibration.measure(survey(np.repeat(places, n, axis=0)), SETTINGS).level(None) for n in (1, 20))
    sizes = [np.sqrt(np.linalg.det(level.covariance(np.array([50.0, 0.0])))) for level in (once, often)]
    assert sizes[1] > 0.5 * sizes[0]
    assert len(often.residuals) <= 120


def test_a_survey_of_too_few_places_cannot_be_calibrated() -> None:
    version = survey(np.repeat(street(5, seed=1), 20, axis=0))
    with pytest.raises(errors.CellTooSmall, match="places"):
        KnnCalibration.measure(version, SETTINGS)


def test_the_level_is_that_of_the_fix() -> None:
    calibration = KnnCalibration.measure(survey(street(100, seed=1)), SETTINGS)
    assert [level.sigma for level in calibration.levels] == [1.0, 3.0, 10.0, None]
    assert calibration.level(2.0).sigma == 3.0
    assert calibration.level(11.0).sigma is calibration.level(None).sigma is None


def test_a_fix_that_the_signal_contradicts_is_no_part_of_the_estimate() -> None:
    version = survey(street(800, seed=1))
    calibration = KnnCalibration.measure(version, SETTINGS)
    csi = noisy(np.array([[60.0, 10.0]], np.float32), 5).view(np.float32).reshape(1, ANTENNAS, -1, 2)
    users = [User(version, csi[0], np.array(fix, np.float32), 1.0, calibration.limits) for fix in ((60, 10), (35, -15))]
    right, wrong = KnnEstimator().locate(users, Stopwatch())
    assert isinstance(right, KnnEstimate)
    assert isinstance(wrong, KnnEstimate)
    assert (right.coarse_used, wrong.coarse_used) == (True, False)
    assert np.linalg.norm(wrong.position - (60, 10)) < 3


def test_csi_of_another_level_is_refused() -> None:
    version = survey(street(100, seed=1))
    calibration = KnnCalibration.measure(version, SETTINGS)
    csi = 1000 * noisy(street(1, seed=2), 5).view(np.float32).reshape(1, ANTENNAS, -1, 2)
    nowhere = np.full(2, np.nan, np.float32)
    (refused,) = KnnEstimator().locate([User(version, csi[0], nowhere, np.nan, calibration.limits)], Stopwatch())
    assert isinstance(refused, errors.CsiLevelImplausible)


@pytest.mark.parametrize(
    ("policy", "fingerprints", "error"),
    [
        ("lwlm", 100, errors.ModelNotAllowed),
        ("scadf-moe", 100, errors.ModelNotAllowed),
        ("auto", 18, errors.CellTooSmall),
        ("mateformer", 18, errors.CellTooSmall),
        ("auto", 19, None),
        ("mateformer", 19, None),
    ],
)
def test_policy_and_size_are_checked(
    policy: ModelPolicy, fingerprints: int, error: type[errors.FieldError] | None
) -> None:
    manifest = survey(street(fingerprints, seed=1)).manifest.model_copy(update={"model": policy})
    with nullcontext() if error is None else pytest.raises(error):
        check_compares(manifest, 0.95)
