import math
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from typer.testing import CliRunner

from models.artifact import LwlmArtifact, LwlmManifest, load_artifact
from models.cli import app
from models.lwlm.decoding import Lwlm, load_lwlm
from models.lwlm.export import Full, check_parity, conformal_quantile, mahalanobis
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


@pytest.mark.parametrize(("count", "rank"), [(19, 19), (20, 20), (39, 38), (99, 95), (100, 96), (5, 5)])
def test_the_conformal_quantile_has_its_rank(count: int, rank: int, generator: torch.Generator) -> None:
    scores = 1 + torch.randperm(count, generator=generator).float()
    assert conformal_quantile(scores) == rank


def test_the_conformal_quantile_covers_95_percent_of_exchangeable_scores(generator: torch.Generator) -> None:
    scores = torch.randn((400, 300), generator=generator).exp()
    covered = [float((one[100:] <= conformal_quantile(one[:100])).float().mean()) for one in scores]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)


def test_the_mahalanobis_distance_counts_standard_deviations() -> None:
    covariance = torch.diag(torch.tensor([4.0, 0.25]))
    errors = torch.tensor([[6.0, 0.0], [0.0, 1.5], [2.0, 0.5]])
    torch.testing.assert_close(mahalanobis(errors, covariance.expand(3, 2, 2)), torch.tensor([3.0, 3.0, math.sqrt(2)]))
