import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.artifact import MateformerManifest, load_artifact
from models.cli import app
from models.mateformer import query_few
from models.mateformer.locators import Positions
from models.mateformer.query_few import SHIFT_LIMIT, NoFrames, add_query_few, require_few_parity
from models.pipeline.export import ParityLost
from tests.service.tiny_artifact import write_tiny_artifact

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "models/artifacts/mateformer"
SURVEYS = [ROOT / "benchmarks/data/florence-0000-references.safetensors"]


def estimates(east: float = 0.0, sigma: float = 0.1) -> Positions:
    """Of four users, at (east, 0)."""
    positions, covariance = np.array([east, 0], np.float32), sigma**2 * np.eye(2, dtype=np.float32)
    return Positions(np.tile(positions, (2, 2, 1)), np.tile(covariance, (2, 2, 1, 1)))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_small_share_of_the_stated_error_is_parity(share: float) -> None:
    moved = share * 0.1 * np.sqrt(2 * SHIFT_LIMIT)  # on one of two axes
    assert require_few_parity(estimates(moved), estimates()) == pytest.approx(share**2 * SHIFT_LIMIT, rel=1e-3)


@pytest.mark.parametrize(
    "few",
    [
        estimates(1.02 * 0.1 * np.sqrt(2 * SHIFT_LIMIT)),
        estimates(sigma=0.112),
        estimates(sigma=0.088),
        estimates(np.nan),
    ],
)
def test_estimates_and_ellipses_farther_apart_are_an_error(few: Positions) -> None:
    with pytest.raises(ParityLost, match="query_few"):
        require_few_parity(few, estimates())


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A copy of the shipped artifact, which has no graph for few users."""
    folder = tmp_path / "artifact"
    shutil.copytree(SHIPPED, folder)
    return folder


def test_an_artifact_gets_the_graph_without_its_checkpoint(shipped: Path) -> None:
    before = load_artifact(shipped, MateformerManifest)
    (line,) = add_query_few(before, SURVEYS)
    assert line.startswith("florence-0000: 200 users, mean error 0.0")
    after = load_artifact(shipped, MateformerManifest)
    assert after.digest != before.digest
    assert {name: after.graphs[name] for name in before.graphs} == before.graphs
    assert len(after.graphs["query_few"]) < 0.8 * len(after.graphs["query"])
    assert add_query_few(after, SURVEYS) == [line]  # anew, and the same
    assert load_artifact(shipped, MateformerManifest) == after


def test_an_artifact_whose_answers_would_change_stays_as_it_was(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_few, "SHIFT_LIMIT", 1e-4)
    before = load_artifact(shipped, MateformerManifest)
    with pytest.raises(ParityLost):
        add_query_few(before, SURVEYS)
    assert load_artifact(shipped, MateformerManifest) == before
    assert not (shipped / "query_few.onnx").exists()


def test_an_artifact_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFrames):
        add_query_few(write_tiny_artifact(tmp_path), SURVEYS)


def test_the_command_adds_the_graph_and_names_an_artifact_without_frames(shipped: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["quantise", str(shipped), str(SURVEYS[0])])
    assert done.exit_code == 0, done.output
    assert "florence-0000: 200 users, mean error 0.0" in done.output
    assert "query_few" in load_artifact(shipped, MateformerManifest).graphs
    (tmp_path / "tiny").mkdir()
    write_tiny_artifact(tmp_path / "tiny")
    refused = CliRunner().invoke(app, ["quantise", str(tmp_path / "tiny"), str(SURVEYS[0])])
    assert refused.exit_code == 1
    assert "has no graph query" in refused.output
