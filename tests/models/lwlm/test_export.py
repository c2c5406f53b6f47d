import json
import math
import shutil
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from typer.testing import CliRunner

from models.artifact import LwlmArtifact, LwlmManifest, load_artifact
from models.cli import app
from models.lwlm.calibration import load_validation, mahalanobis
from models.lwlm.decoding import Lwlm, load_lwlm
from models.lwlm.export import Full, check_parity
from models.lwlm.labels import LabelledUsers
from models.lwlm.learner import DECODING, split_users
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.export import ParityLost, round_weights


@pytest.fixture(scope="module")
def folder(lwlm_recipe: LwlmRecipe, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run`` and ``artifact``, made by the commands."""
    folder = tmp_path_factory.mktemp("commands")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(lwlm_recipe.model_dump(mode="json"), sort_keys=False))
    for words in (["fit", recipe, folder / "run"], ["export", recipe, folder / "run", folder / "artifact"]):
        done = CliRunner().invoke(app, [*map(str, words), "--paths", str(streets)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def artifact(folder: Path) -> LwlmArtifact:
    return load_artifact(folder / "artifact", LwlmManifest)


@pytest.fixture(scope="module")
def model(folder: Path, lwlm_recipe: LwlmRecipe) -> Lwlm:
    return round_weights(load_lwlm(folder / "run" / DECODING, lwlm_recipe.for_decoders()))


def test_an_artifact_states_its_configurations_and_figures(artifact: LwlmArtifact, lwlm_recipe: LwlmRecipe) -> None:
    manifest = artifact.manifest
    assert (manifest.csi.antennas, manifest.csi.subcarriers) == ((8,), (64, 72))
    assert (manifest.csi.minimum_bandwidth, manifest.csi.maximum_bandwidth) == (10e6, 50e6)
    assert manifest.stations == lwlm_recipe.streets.stations
    assert all(math.isfinite(figure) for figure in manifest.metrics.values())
    for name in ("README.md", "recipe.yaml", "log.jsonl", "weights.safetensors"):
        assert (artifact.directory / name).stat().st_size > 0


def test_graphs_equal_torch_for_every_shape(
    artifact: LwlmArtifact, model: Lwlm, lwlm_recipe: LwlmRecipe, streets: Path
) -> None:
    _, tested = split_users(lwlm_recipe, streets)
    assert {group.csi.shape[3] for group in tested.groups} == {64, 72}
    assert check_parity(model, tested.groups, artifact.directory) < 1e-3
    group = tested.groups[0]
    csi, configuration = group.csi[:, 0], group.configuration[:, 0]
    session = onnxruntime.InferenceSession(artifact.graphs["full"], providers=["CPUExecutionProvider"])
    answers = session.run(None, {"csi": csi.numpy(), "configuration": configuration.numpy()})
    with torch.inference_mode():
        for answer, expected in zip(answers, Full(model)(csi, configuration), strict=True):
            torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-3, atol=2e-3)


def test_other_weights_are_an_error(
    artifact: LwlmArtifact, model: Lwlm, lwlm_recipe: LwlmRecipe, streets: Path
) -> None:
    changed = round_weights(model)
    with torch.no_grad():
        changed.decoders.position.out.bias += 0.01
    with pytest.raises(ParityLost):
        check_parity(changed, split_users(lwlm_recipe, streets)[1].groups, artifact.directory)


def test_calibrating_again_finds_the_same_scales_and_leaves_graphs_and_weights(
    artifact: LwlmArtifact, streets: Path, tmp_path: Path
) -> None:
    again = shutil.copytree(artifact.directory, tmp_path / "again")
    old = json.loads((again / "artifact.json").read_text())
    old |= {"schema_version": 1, "scales": {"range": 1.0, "aoa": 1.0, "position": 1.0, "fused": 1.0}}
    (again / "artifact.json").write_text(json.dumps(old))
    done = CliRunner().invoke(app, ["calibrate", str(again), "--paths", str(streets)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = load_artifact(again, LwlmManifest).manifest
    for name, scales in artifact.manifest.scales:
        assert getattr(found.scales, name).factors == pytest.approx(scales.factors, rel=0.02)
        assert list(scales.factors.values()) == sorted(scales.factors.values())
    assert found.metrics.keys() == artifact.manifest.metrics.keys()
    for name in ("full.onnx", "fuse.onnx", "weights.safetensors", "recipe.yaml", "log.jsonl"):
        assert (again / name).read_bytes() == (artifact.directory / name).read_bytes()
    assert done.output.strip() in (again / "README.md").read_text()
    told = CliRunner().invoke(app, ["calibrate", str(again), "--paths", str(streets), "--json"], catch_exceptions=False)
    coverage = json.loads(told.stdout)
    assert coverage["2 stations"].keys() == {"50", "68", "90", "95", "99"}
    assert found.metrics["coverage of 95 % intervals, range"] == round(coverage["range"]["95"], 4)


def places(users: LabelledUsers) -> set[tuple[float, ...]]:
    return {tuple(place) for group in users.groups for place in group.user.tolist()}


def test_nothing_is_calibrated_on_users_that_are_trained_on_or_tested(lwlm_recipe: LwlmRecipe, streets: Path) -> None:
    labelled, tested = split_users(lwlm_recipe, streets)
    known = {tuple(place) for users in (labelled, tested) for group in users.groups for place in group.user.tolist()}
    validation = {
        tuple(place) for group in load_validation(lwlm_recipe, streets).groups for place in group.user.tolist()
    }
    assert validation
    assert not validation & known


def test_the_mahalanobis_distance_counts_standard_deviations() -> None:
    covariance = torch.diag(torch.tensor([4.0, 0.25]))
    errors = torch.tensor([[6.0, 0.0], [0.0, 1.5], [2.0, 0.5]])
    torch.testing.assert_close(mahalanobis(errors, covariance.expand(3, 2, 2)), torch.tensor([3.0, 3.0, math.sqrt(2)]))
