from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo_walks import WalksResult, locate_walks, shown_walks
from reference_db import DirectoryStore, Fingerprints, write_fingerprint_file
from tests.service.learned_cells import fill, learned_cell, seen_at, write_artifacts
from tests.service.locating.test_joint_locator import CELL, CONTRACT, WALK
from tests.service.serving import serving

SNAPSHOTS = 5


@pytest.fixture(scope="module")
def located(tmp_path_factory: pytest.TempPathFactory) -> WalksResult:
    folder = tmp_path_factory.mktemp("demo")
    settings = write_artifacts(folder, tracks=CONTRACT)
    fill(DirectoryStore(settings.database_directory))
    walks = [WALK[:SNAPSHOTS], WALK[:SNAPSHOTS] + np.array([0.0, 2.0])]
    places, n = np.concatenate(walks).astype(np.float32), 2 * SNAPSHOTS
    times = np.tile(np.arange(float(SNAPSHOTS)), 2)
    fingerprints = Fingerprints(seen_at(places), places, times, np.full(n, 0.02, np.float32))
    file = folder / f"{CELL}-walks.safetensors"
    write_fingerprint_file(file, learned_cell(CELL), fingerprints)
    assert shown_walks(folder) == [file]
    with serving(settings) as url:
        return locate_walks(url, file)


def test_walks_are_located_alone_together_and_as_tracks(located: WalksResult) -> None:
    assert located.truth.shape == located.alone.shape == located.together.shape == (2, SNAPSHOTS, 2)
    assert np.abs(located.together - located.alone).max() > 0.01
    np.testing.assert_allclose(located.tracked, located.together[:, -1], atol=1e-3)
    assert located.refused == 0


def test_they_have_a_line(located: WalksResult) -> None:
    (line,) = located.lines()
    assert line.startswith(f"2 walks of 5 snapshots in {CELL}, no GNSS: mean error ")
    assert "0 more walks had a snapshot that was refused as foreign" in line


def test_the_shipped_walks_are_of_a_shipped_cell() -> None:
    folder = Path("benchmarks/data")
    for file in shown_walks(folder):
        assert (folder / file.name.replace("-walks", "-references")).exists()
