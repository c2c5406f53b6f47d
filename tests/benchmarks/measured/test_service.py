"""The rows of the service, by real servers with a network that takes no time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.measured import service
from benchmarks.measured.__main__ import rows_of
from benchmarks.measured.corridors import read_corridors
from benchmarks.measured.report import Section, report
from benchmarks.measured.service import locate_by_service, write_unfit_artifact
from models.artifact import MateformerManifest, load_artifact
from tests.service.tiny_artifact import write_tiny_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers the middle of the eight nearest fingerprints."""
    folder = tmp_path_factory.mktemp("artifacts") / "middle"
    folder.mkdir()
    write_tiny_artifact(folder, doubtful=False)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SAMPLES", "40")


def test_a_model_locates_the_tests_of_every_corridor(
    file: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corridors = read_corridors(file, "channel")
    found = locate_by_service(corridors, artifact, tmp_path / "served", 4, "mateformer")
    assert found.faults == {}
    rows = list(rows_of("middle", corridors, found))
    assert [row.corridor for row in rows] == ["corridor-1", "corridor-2"]
    for row in rows:
        assert (len(row.score.single), row.score.silent, row.score.causes) == (5, 0, {})
        assert row.score.single.mean() < 1
        assert row.score.coverage is not None
        assert row.score.coverage > 0.7
    monkeypatch.delattr(service, "running")
    again = locate_by_service(corridors, artifact, tmp_path / "served", 4, "mateformer")  # without a server
    for kept, answers in zip(again.answers, found.answers, strict=True):
        np.testing.assert_array_equal(kept.positions, answers.positions)
        np.testing.assert_array_equal(kept.inside, answers.inside)
    text = report([Section("channel", rows, [], {})], "command")
    assert f"| corridor-2 | middle | 5 | {rows[1].score.single.mean():.2f} / " in text
    assert text.count("| 0 |") == 2


def test_weighted_knn_answers_where_the_artifact_does_not_serve_the_radio(
    file: Path, artifact: Path, tmp_path: Path
) -> None:
    unfit = write_unfit_artifact(artifact, tmp_path / "unfit")
    assert load_artifact(unfit, MateformerManifest).manifest.csi.carrier_frequency.minimum > 5.2e9
    corridor = read_corridors(file, "channel")[0].with_tests(1)
    found = locate_by_service([corridor], unfit, tmp_path / "served", 10, "weighted-knn")
    (row,) = rows_of("weighted kNN", [corridor], found)
    assert row.score.causes == {}
    assert row.score.single.mean() < 1
    with pytest.raises(RuntimeError, match="mateformer answered instead of weighted-knn"):
        locate_by_service([corridor], artifact, tmp_path / "served", 10, "weighted-knn")


def test_a_survey_that_tells_nothing_is_imported_and_named(
    artifact: Path, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(len(arrays["csi"]))
    np.savez(tmp_path / "shuffled.npz", **(arrays | {"csi": arrays["csi"][order]}))
    corridor = read_corridors(tmp_path / "shuffled.npz", "channel")[0]
    found = locate_by_service([corridor.with_tests(1)], artifact, tmp_path / "served", 10, "mateformer")
    assert "the CSI tells nothing about the place" in found.faults["corridor-1"][0]
    assert np.isfinite(found.answers[0].positions).any()
    text = report([Section("channel", [], [], found.faults)], "command")
    assert "would refuse the survey of corridor-1 without `--force`: the CSI tells nothing about the place" in text
