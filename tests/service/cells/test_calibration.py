from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.artifact import MateformerArtifact
from reference_db import CellVersion
from reference_db.retrieval import LeftOut
from service import errors
from service.cells.calibration import AT_ONCE, Calibration, calibrate, conformal_quantile, label_errors
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.user import User
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS, write_tiny_artifact
from tests.service.tiny_cell import cell_of, positive_csi, uneven_street


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> MateformerArtifact:
    return write_tiny_artifact(tmp_path_factory.mktemp("artifact"), passes=2)


@pytest.fixture(scope="module")
def estimator(artifact: MateformerArtifact) -> Iterator[Estimator]:
    session = MateformerSession(artifact, 1, ["CPUExecutionProvider"])
    yield Estimator(session, 64, 2**20, Metrics())
    session.close()


def located(
    estimator: Estimator, version: CellVersion, csi: np.ndarray, coarse: np.ndarray, accuracy: np.ndarray
) -> np.ndarray:
    users = [User(version, *user) for user in zip(csi, coarse, accuracy, strict=True)]
    estimates = estimator._session.submit(estimator.locate, users, Stopwatch()).result()
    return np.stack([one.position for one in estimates])


@pytest.mark.parametrize(
    ("n", "rank"), [(19, 19), (20, 20), (38, 38), (39, 38), (99, 95), (100, 96), (300, 286), (399, 380)]
)
def test_quantile_is_the_conformal_quantile(n: int, rank: int) -> None:
    errors_in_order = np.arange(1, n + 1, dtype=float)
    shuffled = np.random.default_rng(0).permutation(errors_in_order)
    assert conformal_quantile(shuffled, 0.95) == rank


def test_a_sample_that_is_too_small_gives_an_infinite_bound() -> None:
    assert conformal_quantile(np.ones(18), 0.95) == np.inf


def test_radius_covers_95_per_cent_of_unseen_users(artifact: MateformerArtifact, estimator: Estimator) -> None:
    version = cell_of(uneven_street(500, seed=1))
    calibration = calibrate(artifact, estimator, version, Settings(calibration_samples=500))
    users = uneven_street(2000, seed=2)
    csi = positive_csi(len(users)).view(np.float32).reshape(-1, ANTENNAS, SUBCARRIERS, 2)
    assert [level.sigma for level in calibration.levels] == [1.0, 3.0, 10.0, None]
    for level in calibration.levels:
        accuracy = np.full(len(users), np.nan if level.sigma is None else level.sigma, np.float32)
        coarse = users + accuracy[:, None] * np.random.default_rng(3).standard_normal(users.shape).astype(np.float32)
        found = located(estimator, version, csi, coarse, accuracy)
        inside = np.linalg.norm(found - users, axis=1) <= level.radius
        # Both samples are finite: 2.5 standard deviations of their difference.
        assert inside.mean() > 0.95 - 2.5 * np.sqrt(0.95 * 0.05 * (1 / 500 + 1 / 2000))
        assert inside.mean() < 0.99


def test_a_worse_coarse_position_gets_a_wider_circle(artifact: MateformerArtifact, estimator: Estimator) -> None:
    settings = Settings(calibration_sigmas_m=(10.0, 1.0))
    calibration = calibrate(artifact, estimator, cell_of(uneven_street(300, seed=1)), settings)
    near, far, none = calibration.levels
    assert [level.sigma for level in calibration.levels] == [1.0, 10.0, None]
    # This CSI is noise: without a coarse position the errors are largest.
    assert near.radius < far.radius < none.radius
    assert calibration.level(0.0) == calibration.level(0.5) == near
    assert calibration.level(1.5) == far
    assert calibration.level(10.5) == calibration.level(None) == none


@pytest.fixture
def nearest(tmp_path: Path) -> Iterator[Estimator]:
    """Answers with the position of the one fingerprint retrieved."""
    session = MateformerSession(write_tiny_artifact(tmp_path, neighbours=1, minimum=1), 1, ["CPUExecutionProvider"])
    yield Estimator(session, 16, 2**20, Metrics())
    session.close()


def test_a_fingerprint_is_not_its_own_neighbour(nearest: Estimator) -> None:
    version, rows = cell_of(uneven_street(50, seed=1)), np.arange(50)
    exactly = np.zeros(50, np.float32)
    csi, coarse = version.csi_of(rows), version.positions
    found = nearest.locate_in_background(
        version, csi, coarse[:, None], exactly[:, None], left_out=LeftOut.alone(rows, 50)
    )
    first, second = version.index.nearest(version.positions, 2)[0].T
    np.testing.assert_array_equal(first, rows)
    np.testing.assert_array_equal(found.positions[:, 0], version.positions[second])


def test_a_fingerprint_does_not_recognise_its_own_signal(nearest: Estimator) -> None:
    version, rows = cell_of(uneven_street(50, seed=1)), np.arange(50)
    csi, nowhere = version.csi_of(rows), np.full((50, 2), np.nan, np.float32)
    recognised = located(nearest, version, csi, nowhere, nowhere[:, 0])
    np.testing.assert_array_equal(recognised, version.positions)
    found = nearest.locate_in_background(
        version, csi, nowhere[:, None], nowhere[:, :1], left_out=LeftOut.alone(rows, 50)
    )
    # The CSI is noise: most estimates lie elsewhere in the cell.
    assert np.median(np.linalg.norm(found.positions[:, 0] - version.positions, axis=1)) > 10


def test_users_with_and_without_a_coarse_position_mix(nearest: Estimator) -> None:
    version, rows = cell_of(uneven_street(50, seed=1)), np.arange(20)
    coarse, accuracy = uneven_street(20, seed=2), np.full(20, 0.5, np.float32)
    coarse[::2] = accuracy[::2] = np.nan
    csi = version.csi_of(rows)
    together = located(nearest, version, csi, coarse, accuracy)
    alone = [located(nearest, version, csi[[i]], coarse[[i]], accuracy[[i]])[0] for i in rows]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[::2], version.positions[rows[::2]])


def test_same_seed_gives_the_same_calibration(artifact: MateformerArtifact, estimator: Estimator) -> None:
    version, settings = cell_of(uneven_street(100, seed=1)), Settings(calibration_samples=40)
    first, again = (calibrate(artifact, estimator, version, settings) for _ in range(2))
    assert first == again
    other = Settings(calibration_samples=40, calibration_seed=1)
    assert calibrate(artifact, estimator, version, other) != first


def test_a_manifest_keeps_a_calibration(artifact: MateformerArtifact, estimator: Estimator) -> None:
    calibration = calibrate(artifact, estimator, cell_of(uneven_street(100, seed=1)), Settings())
    quality = calibration.as_quality(artifact.digest)
    assert Calibration.of_quality(quality, artifact.digest) == calibration
    assert Calibration.of_quality(quality, "another") is None
    assert Calibration.of_quality({"calibration": {artifact.digest: {"rungs": 7}}}, artifact.digest) is None
    assert Calibration.of_quality({}, artifact.digest) is None


def test_a_calibration_of_before_there_were_ellipses_is_ignored() -> None:
    level = {"sigma": None, "radius": 2, "mean": 0.5, "median": 0.25, "p95": 1.5}
    stored = {
        "artifact": "mateformer 1",
        "retrieval": "fused",
        "confidence": 0.95,
        "samples": 300,
        "seed": 0,
        "fingerprints": 1200,
        "version": 7,
        "changed": 30,
        "rungs": [level | {"sigma": 1.0}, level],
    }
    assert Calibration.of_quality({"calibration": {"digest": stored}}, "digest") is None


def test_a_calibration_that_does_not_say_its_version_is_expired(
    artifact: MateformerArtifact, estimator: Estimator
) -> None:
    calibration = calibrate(artifact, estimator, cell_of(uneven_street(100, seed=1)), Settings())
    assert not calibration.expired
    assert calibration.after_change(21).expired
    assert not calibration.after_change(20).expired
    assert calibration.model_copy(update={"version": None}).expired


def test_a_calibration_for_another_retrieval_is_ignored(artifact: MateformerArtifact, estimator: Estimator) -> None:
    quality = calibrate(artifact, estimator, cell_of(uneven_street(100, seed=1)), Settings()).as_quality(
        artifact.digest
    )
    del quality["calibration"][artifact.digest]["retrieval"]
    assert Calibration.of_quality(quality, artifact.digest) is None
    assert Calibration.all_of_quality(quality) == []


def test_cell_too_small_to_state_95_per_cent_is_refused(artifact: MateformerArtifact, estimator: Estimator) -> None:
    with pytest.raises(errors.CellTooSmall, match="18 fingerprints, it needs 19"):
        calibrate(artifact, estimator, cell_of(uneven_street(18, seed=1)), Settings())
    assert calibrate(artifact, estimator, cell_of(uneven_street(19, seed=1)), Settings()).samples == 19


def test_cell_outside_the_ranges_is_refused(artifact: MateformerArtifact, estimator: Estimator) -> None:
    csi = np.ones((30, 65, SUBCARRIERS), np.complex64) * np.arange(1, 31)[:, None, None].astype(np.complex64)
    with pytest.raises(errors.CellNotServed, match="antennas is 65, the artifact was trained on 1 to 64"):
        calibrate(artifact, estimator, cell_of(uneven_street(30, seed=1), csi, antennas=65), Settings())


def test_a_fingerprint_without_an_answer_fails_the_calibration(
    artifact: MateformerArtifact, estimator: Estimator
) -> None:
    with pytest.raises(errors.EstimateNotFinite):
        calibrate(artifact, estimator, cell_of(uneven_street(30, seed=1), -positive_csi(30)), Settings())


def estimator_of(session: MateformerSession) -> Estimator:
    return Estimator(session, 8, 2**20, Metrics())


def test_label_errors_leave_each_fingerprint_out_of_its_own_neighbourhood(session: MateformerSession) -> None:
    positions = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [14, 0]], np.float32)  # fewer than a neighbourhood
    version, rows = cell_of(positions), np.array([4, 0])
    alone = label_errors(estimator_of(session), version, version, rows, left_out=True)
    np.testing.assert_allclose(alone, [14 - 1.5, 5], rtol=1e-6)
    beside_itself = label_errors(estimator_of(session), version, version, rows, left_out=False)
    np.testing.assert_allclose(beside_itself, [10, 4], rtol=1e-6)


def test_label_errors_are_nan_only_where_the_model_has_no_answer(session: MateformerSession) -> None:
    n = AT_ONCE + 3
    csi = positive_csi(n)
    csi[1] *= -1
    version = cell_of(np.random.default_rng(0).uniform(0, 30, (n, 2)).astype(np.float32), csi)
    errors = label_errors(estimator_of(session), version, version, np.arange(n), left_out=True)
    assert np.flatnonzero(np.isnan(errors)).tolist() == [1]
