from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from models.artifact import MateformerManifest, Motion, Scales, load_artifact
from models.cli import app
from models.tracks.calibration import TooFewWalks, measure_levels
from models.tracks.evaluation import describe_inputs, run_network, time_tracks
from models.tracks.network import TrackConfig, TrackFormer
from models.tracks.recipe import ARTIFACTS, TracksRecipe
from models.tracks.walked import Walked
from tests.models.tracks.synthetic import STREAMS, draw_walked

MOTION = Motion(speed=1.0, wander=0.2, trust=1.0)
SHIPPED = ARTIFACTS / "mateformer"


@pytest.fixture
def walked() -> Walked:
    """Walks with fixes of every kind."""
    accuracies = (1.0, 4.0, 10.0, np.inf)
    parts = [draw_walked(30, np.random.default_rng(seed)) for seed in range(len(accuracies))]
    for part, accuracy in zip(parts, accuracies, strict=True):
        part.accuracy[:] = accuracy
    return Walked.join(parts)


def test_export_adds_a_network_to_a_copy_of_the_artifact(tracks_recipe: dict, paths: Path, tmp_path: Path) -> None:
    tracks_recipe["draws"] |= {"calibrated": 12, "known": 0.7}
    file, run, out = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "artifact"
    file.write_text(yaml.safe_dump(tracks_recipe))
    for command in (["fit", str(file), str(run)], ["export", str(file), str(run), str(out)]):
        done = CliRunner().invoke(app, [*command, "--paths", str(paths)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    before, after = (load_artifact(folder, MateformerManifest) for folder in (SHIPPED, out))
    assert {name: after.graphs[name] for name in before.graphs.keys() - {"track"}} == {
        name: content for name, content in before.graphs.items() if name != "track"
    }
    contract = after.manifest.tracks
    assert contract is not None
    assert [(one.accuracy, one.snapshots) for one in contract.levels] == [
        (accuracy, count) for accuracy in (2.0, 6.0, None) for count in (1, 2, 5, 10)
    ]
    card = (out / "README.md").read_text()
    assert card.count("**Tracks.**") == 1
    assert "Up to 10 snapshots of one user" in card
    recipe = TracksRecipe.load(out / "tracks.yaml")
    assert recipe == TracksRecipe.load(file)
    weights = load_file(out / "tracks.safetensors")
    network = TrackFormer(recipe.config())
    network.load_state_dict(weights)
    inputs = describe_inputs(*_track_of(recipe.config().streams), contract.motion)
    with torch.inference_mode():
        expected = network.eval()(*inputs).position.numpy()
    names = ("streams", "numbers", "smoothed", "sigma")
    session = onnxruntime.InferenceSession(after.graphs["track"], providers=["CPUExecutionProvider"])
    feeds = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    np.testing.assert_allclose(session.run(["positions"], feeds)[0], expected, atol=1e-3)


def _track_of(streams: int) -> tuple[Walked, np.ndarray]:
    """Tracks of another number and length than the exporter saw."""
    rng = np.random.default_rng(0)
    walked = draw_walked(3, rng)
    wide = rng.normal(size=(*walked.streams.shape[:2], streams)).astype(np.float16)
    tracks = Walked(**{**vars(walked), "streams": wide}).cut(3)
    return tracks, time_tracks(tracks)


def test_the_levels_hold_for_the_errors_that_they_were_measured_on(walked: Walked) -> None:
    network = TrackFormer(TrackConfig(streams=STREAMS, width=16, depth=1, hidden=16, heads=2)).eval()
    for level in measure_levels(network, MOTION, walked):
        most = level.accuracy or np.inf
        least = max([bound for bound in (0.0, 2.0, 6.0) if bound < most])
        some = walked.take_walks((walked.accuracy[:, 0] > least) & (walked.accuracy[:, 0] <= most))
        tracks = some.cut(level.snapshots)
        positions, covariances = run_network(network, tracks, time_tracks(tracks), MOTION)
        for scales, at, stated in (
            (level.alone, tracks.estimates, tracks.covariances),
            (level.together, positions, covariances),
        ):
            assert _share_inside(at - tracks.truth, stated, scales) == pytest.approx(0.9, abs=0.01)


def _share_inside(off: np.ndarray, covariances: np.ndarray, scales: Scales) -> float:
    squared = np.einsum("wti,wtij,wtj->wt", off, np.linalg.inv(covariances), off)
    return float((squared <= scales.factors[90] ** 2).mean())


def test_levels_that_cannot_be_measured_are_named(walked: Walked) -> None:
    network = TrackFormer(TrackConfig(streams=STREAMS, width=16, depth=1, hidden=16, heads=2)).eval()
    with pytest.raises(TooFewWalks, match=r"with fixes of up to 2 m.*raise draws\.calibrated"):
        measure_levels(network, MOTION, walked.take_walks(walked.accuracy[:, 0] > 2))
