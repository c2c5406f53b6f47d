import numpy as np
import pytest

from benchmarks.demo_trajectories import TrajectoryResult, locate_trajectories
from reference_db import DirectoryStore, Fingerprints, write_fingerprint_file
from tests.service.learned_cells import TRAJECTORY, fill, learned_cell, seen_at, write_artifacts
from tests.service.serving import serving
from tests.service.tiny_trajectory_artifact import VERTICES


@pytest.fixture(scope="module")
def located(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryResult:
    """Two trajectories in line of sight, located by a model that uses the path features alone."""
    folder = tmp_path_factory.mktemp("demo")
    settings = write_artifacts(folder)
    fill(DirectoryStore(settings.database_directory))
    places = np.concatenate([TRAJECTORY, TRAJECTORY + np.array([10.0, -8.0])]).astype(np.float32)
    fingerprints = Fingerprints(seen_at(places), places, np.zeros(len(places)), np.full(len(places), 0.02, np.float32))
    file = folder / "bare-trajectories.safetensors"
    write_fingerprint_file(file, learned_cell("bare"), fingerprints)
    angle, distance = np.arctan2(places[:, 1], places[:, 0]), np.hypot(*places.T)
    np.save(folder / "bare-cues.npy", np.stack([angle, angle - np.pi, distance, 1e-6 / distance**2], axis=1))
    with serving(settings) as url:
        return locate_trajectories(url, file)


def test_trajectories_are_located_with_path_features_without_them_and_as_tracks(located: TrajectoryResult) -> None:
    assert (located.cell, located.trajectories, located.vertices) == ("bare", 2, VERTICES)
    assert located.points["measured"].max() < 1e-2
    assert located.centroids["measured"].max() < 1e-2
    assert located.points["from the CSI"].max() < 1
    assert located.track.max() < 1
    assert located.inside["measured"].all()


def test_each_way_has_a_line(located: TrajectoryResult) -> None:
    measured, estimated, track = located.lines()
    assert "2 trajectories of 3 points in bare, path features measured: mean error 0.00 m" in measured
    assert "100.0 % inside their stated 95 % circle" in measured
    assert "path features from the CSI" in estimated
    assert "trackId" in track
