"""The networks that are served: the shipped artifact, and artifacts of the paper's size, whose weights are random.

How fast a network answers does not depend on its weights; what it answers does, and nobody looks at that here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import MANIFEST_FILE, ArtifactManifest
from models.mateformer.network import MateformerConfig
from models.pipeline.recipe import Recipe, load_recipe

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = MODELS / "artifacts" / "mateformer"
RECIPE = MODELS / "recipes" / "mateformer.yaml"
PAPER_SIZE = {"width": 256, "depth": 8, "hidden": 256, "heads": 4}
SMALL_CHANNEL = 16  # antennas, and subcarriers: a million fingerprints of 32 x 32 fit in no small machine
NEIGHBOURS = 64
TILE_M = 2.0  # pitch, where the recipe has none
_SOURCES = ("mateformer.py", "channel_features.py", "export.py", "onnx_graph.py", "artifact.py")


@dataclass(frozen=True)
class Network:
    """An artifact's folder, with the weights beside its graphs, and the shape of its network."""

    name: str
    folder: Path
    config: MateformerConfig

    @property
    def label(self) -> str:
        """Another one for another artifact; fit for a folder's name."""
        digest = hashlib.sha256((self.folder / MANIFEST_FILE).read_bytes()).hexdigest()
        return f"d{self.config.width}-{digest[:12]}"

    @property
    def full_graph(self) -> Path:
        manifest = ArtifactManifest.model_validate_json((self.folder / MANIFEST_FILE).read_bytes())
        return self.folder / manifest.graphs["full"].file


def shipped() -> Network:
    config = load_recipe(SHIPPED / "recipe.yaml").config()
    return Network(f"shipped (d {config.width}, N {config.depth})", SHIPPED, config)


def paper_size(folder: Path, antennas: int = 32) -> Network:
    """The paper's d and N with the shipped recipe's pictures and options, for `antennas` x as many subcarriers.

    Exported into a folder of its own below `folder`, once for each state of the code that exports it.
    """
    recipe = _sized(load_recipe(RECIPE), antennas)
    marks = [recipe.model_dump_json().encode(), *((MODELS / source).read_bytes() for source in _SOURCES)]
    exported = folder / f"paper-{antennas}-{hashlib.sha256(b''.join(marks)).hexdigest()[:12]}"
    if not (exported / MANIFEST_FILE).exists():  # which is written last
        _export(recipe, exported)
    config = recipe.config()
    return Network(f"d {config.width}, N {config.depth}", exported, config)


def _sized(recipe: Recipe, antennas: int) -> Recipe:
    array = recipe.radio.array.model_copy(update={"columns": antennas})
    radio = recipe.radio.model_copy(update={"array": array, "subcarriers": antennas})
    tiles = recipe.retrieval.model_copy(update={"tile_pitch": recipe.retrieval.tile_pitch or TILE_M})
    # What else is in the recipe is of training, which does not happen.
    changed = {"name": "paper-size", "radio": radio, "retrieval": tiles, "model": recipe.model | PAPER_SIZE}
    return recipe.model_copy(update=changed)


def _export(recipe: Recipe, folder: Path) -> None:
    import torch
    import yaml
    from safetensors.torch import save_file

    from models.mateformer.export import RECIPE_FILE, WEIGHTS_FILE, export
    from models.mateformer.network import Mateformer

    torch.manual_seed(0)
    model, config = Mateformer(recipe.config()), recipe.config()
    rng = np.random.default_rng(0)
    shape = (config.antennas, config.subcarriers)

    def channels(*sizes: int) -> np.ndarray:
        re, im = rng.standard_normal((2, *sizes, *shape))
        return np.asarray(re + 1j * im, np.complex64)

    def places(*sizes: int) -> np.ndarray:
        return np.asarray(rng.uniform(-5, 5, (*sizes, 2)), np.float32)

    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / WEIGHTS_FILE)
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    export(
        model,
        recipe,
        folder,
        known=channels(2, NEIGHBOURS),
        positions=places(2, NEIGHBOURS),
        users=channels(2, 4),
        truth=places(2, 4),
        training_data_digest="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
    )
