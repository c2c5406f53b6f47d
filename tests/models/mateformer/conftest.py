"""One exported model for all tests of the family: an export takes a core most of a minute."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifact import MANIFEST_FILE, MateformerArtifact, MateformerManifest, load_artifact
from models.mateformer.data import View, build_view
from models.mateformer.export import Sample, export
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.export import round_weights
from models.radio.cells import RadioCell, load_cell

TABLE = Path(__file__).parents[1] / "data" / "etoile-0900.paths.safetensors"


@pytest.fixture(scope="session")
def cell(mateformer_recipe: MateformerRecipe) -> RadioCell:
    return load_cell(TABLE, mateformer_recipe.radio)


@pytest.fixture(scope="session")
def view(mateformer_recipe: MateformerRecipe, cell: RadioCell) -> View:
    radio = mateformer_recipe.radio
    return build_view(cell.csi, cell.positions, radio, radio.carrier_frequency)


@pytest.fixture(scope="session")
def model(mateformer_recipe: MateformerRecipe) -> Mateformer:
    """With the weights of `artifact`. Tests leave it as it is."""
    return round_weights(untrained(mateformer_recipe)).eval()


def untrained(recipe: MateformerRecipe) -> Mateformer:
    torch.manual_seed(0)
    return Mateformer(recipe.config())


@pytest.fixture(scope="session")
def artifact(
    mateformer_recipe: MateformerRecipe, view: View, tmp_path_factory: pytest.TempPathFactory
) -> MateformerArtifact:
    """Tests leave it as it is. The processes of pytest-xdist share it: the first that needs it exports it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "mateformer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "mateformer" / MANIFEST_FILE).exists():  # the last file but the card
            rows = np.arange(60).reshape(3, 20)
            csi = view.csi[rows].astype(np.float32).view(np.complex64)[..., 0]
            sample = Sample(view.channel, csi, view.positions[rows], known=16)
            model = untrained(mateformer_recipe)
            export(model, mateformer_recipe, folder / "mateformer", sample, "0" * 64, "2026-01-01T00:00:00Z", few=True)
        return load_artifact(folder / "mateformer", MateformerManifest)
