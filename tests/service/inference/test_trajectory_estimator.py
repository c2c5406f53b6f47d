"""The shipped artifact for trajectories, at snapshots of its street that training never saw."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import TrajectoryManifest, load_artifact
from reference_db import read_fingerprint_file
from service.inference.trajectory_estimator import Trajectory, TrajectoryEstimator
from service.inference.trajectory_session import TrajectorySession
from service.telemetry.stopwatch import Stopwatch

DATA = Path(__file__).parents[3] / "benchmarks" / "data"
SHIPPED = Path(__file__).parents[3] / "models" / "artifacts" / "scadf-moe"
SOME = 8  # trajectories


@pytest.fixture(scope="module")
def session() -> Iterator[TrajectorySession]:
    session = TrajectorySession(load_artifact(SHIPPED, TrajectoryManifest), 1, ["CPUExecutionProvider"])
    yield session
    session.close()


def located(session: TrajectorySession, unit: float, features: list[int]) -> NDArray[np.float32]:
    """The points of some trajectories whose CSI is in another unit; the station measured `features`, by number."""
    vertices = session.manifest.vertices
    cell, users = read_fingerprint_file(DATA / "munich-0202-trajectories.safetensors")
    csi = (users.csi * np.complex64(unit)).view(np.float32).reshape(-1, vertices, *users.csi.shape[1:], 2)
    measured = np.load(DATA / "munich-0202-cues.npy", allow_pickle=False).reshape(-1, vertices, 4)
    sent = np.where(np.isin(np.arange(4), features), measured, np.nan)
    trajectories = [Trajectory(cell, *one) for one in zip(csi[:SOME], sent[:SOME], strict=True)]
    answers = session.submit(TrajectoryEstimator(session).locate, trajectories, Stopwatch()).result()
    return np.stack([one.positions for one in answers])


@pytest.mark.parametrize("features", [[3], [0, 1, 2, 3]], ids=["gain", "all"])
@pytest.mark.parametrize("unit", [1e-2, 1e6])
def test_the_unit_of_the_csi_does_not_matter_where_the_gain_is_measured(
    session: TrajectorySession, unit: float, features: list[int]
) -> None:
    apart = np.linalg.norm(located(session, unit, features) - located(session, 1.0, features), axis=-1)
    assert apart.max() < 0.01  # metres


def test_the_unit_of_the_csi_matters_where_the_gain_is_estimated(session: TrajectorySession) -> None:
    """As the documentation says. An artifact that does not depend on it makes that page wrong."""
    apart = np.linalg.norm(located(session, 1e-2, []) - located(session, 1.0, []), axis=-1)
    assert apart.mean() > 0.2


def test_most_points_lie_inside_their_ellipses_and_these_differ_in_size(session: TrajectorySession) -> None:
    vertices = session.manifest.vertices
    cell, users = read_fingerprint_file(DATA / "munich-0202-trajectories.safetensors")
    csi = users.csi.view(np.float32).reshape(-1, vertices, *users.csi.shape[1:], 2)
    trajectories = [Trajectory(cell, one, np.full((vertices, 4), np.nan)) for one in csi]
    answers = session.submit(TrajectoryEstimator(session).locate, trajectories, Stopwatch()).result()
    off = np.stack([one.positions[:-1] for one in answers]) - users.positions.reshape(-1, vertices, 2)
    covariances = np.stack([one.covariances[:-1] for one in answers])
    distances = np.sqrt(np.einsum("...i,...ij,...j->...", off, np.linalg.inv(covariances), off))
    scales = session.manifest.scales.estimated.vertex
    # Most of these points were trained on, so more than the stated share lies inside.
    assert (distances <= scales.at(95).factor).mean() > 0.95
    assert 0.45 < (distances <= scales.at(50).factor).mean() < 0.75
    areas = np.sqrt(np.linalg.det(covariances))
    assert np.quantile(areas, 0.9) > 2 * np.quantile(areas, 0.1)
