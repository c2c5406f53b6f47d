from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifact import MateformerArtifact, MateformerManifest, load_artifact
from models.artifact.channel_transform import ChannelTransform
from models.mateformer.locators import OnnxLocator, TorchLocator
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import RadioCell, load_cell
from reference_db.index.position import PositionIndex

ROOT = Path(__file__).parents[3]
TABLE = Path(__file__).parents[1] / "data" / "etoile-0900.paths.safetensors"


def transform(cell: RadioCell, recipe: MateformerRecipe) -> ChannelTransform:
    radio = recipe.radio
    return ChannelTransform.of(
        radio.array, radio.subcarriers, radio.bandwidth, radio.carrier_frequency, 0.0, 0.0, cell.csi
    )


@pytest.fixture(scope="module")
def locators(model: Mateformer, artifact: MateformerArtifact) -> tuple[TorchLocator, OnnxLocator]:
    return TorchLocator(model, torch.device("cpu")), OnnxLocator(artifact, threads=1)


def test_pytorch_and_onnx_runtime_describe_and_locate_alike(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, locators: tuple[TorchLocator, OnnxLocator]
) -> None:
    channel = transform(cell, mateformer_recipe)
    features = [locator.describe(channel, cell.csi) for locator in locators]  # more than are described together
    assert features[0].shape[0] == len(cell.csi)
    np.testing.assert_allclose(*features, atol=1e-2)
    near, _ = PositionIndex(cell.positions).nearest(cell.positions[:3], 17)
    known, users = near[:, 1:], near[:, :1]
    sigmas, coarse = np.full(known.shape, 0.1, np.float32), cell.positions[users] + np.float32(0.5)
    accuracy = np.array([[1.0], [5.0], [np.inf]], np.float32)
    found = [
        locator.locate(features[0][known], cell.positions[known], sigmas, features[0][users], coarse, accuracy)
        for locator in locators
    ]
    assert found[0].positions.shape == (3, 1, 2)
    np.testing.assert_allclose(found[0].positions, found[1].positions, atol=1e-2)
    np.testing.assert_allclose(found[0].covariances, found[1].covariances, rtol=2e-2, atol=1e-4)
    assert (np.linalg.eigvalsh(found[1].covariances) > 0).all()


def test_frames_are_rounded_to_half_precision_as_the_service_keeps_them(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, locators: tuple[TorchLocator, OnnxLocator]
) -> None:
    model = locators[0]._model
    features = locators[0].describe(transform(cell, mateformer_recipe), cell.csi[:17])
    known, user = features[None, 1:], features[None, :1]
    inputs = (known, cell.positions[None, 1:17], np.zeros((1, 16), np.float32), user)
    fix = np.zeros((1, 1, 2), np.float32), np.full((1, 1), np.inf, np.float32)
    answer = locators[0].locate(*inputs, *fix).positions
    exact = model(*(torch.from_numpy(array) for array in (*inputs, *fix))).position.detach().numpy()
    apart = np.abs(answer - exact).max()
    assert 0 < apart < 1e-2


def test_the_shipped_artifact_locates_users_near_their_places() -> None:
    folder = ROOT / "models" / "artifacts" / "mateformer"
    recipe = MateformerRecipe.load(folder / "recipe.yaml")
    cell = load_cell(TABLE, recipe.radio)
    users = np.arange(0, len(cell.positions), 40)
    near, _ = PositionIndex(cell.positions).nearest(cell.positions[users], 41)
    known = near[:, 1:]
    locator = OnnxLocator(load_artifact(folder, MateformerManifest), threads=1)
    features = locator.describe(transform(cell, recipe), cell.csi)
    nothing = np.zeros((len(users), 1, 2), np.float32), np.full((len(users), 1), np.inf, np.float32)
    exact = np.zeros(known.shape, np.float32)
    found = locator.locate(features[known], cell.positions[known], exact, features[users, None], *nothing)
    errors = np.linalg.norm(found.positions[:, 0] - cell.positions[users], axis=1)
    spread = np.linalg.norm(cell.positions[known].mean(1) - cell.positions[users], axis=1)
    assert np.median(errors) < 0.5 * np.median(spread)
