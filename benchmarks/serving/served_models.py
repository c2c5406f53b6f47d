"""The models to serve: the shipped artifact, and artifacts of the paper's size with random weights.

The speed of a model does not depend on its weights. The benchmarks do not use the positions that it answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import MANIFEST_FILE, MateformerManifest, Range
from models.artifact.channel_transform import ChannelTransform
from models.mateformer.network import MateformerConfig
from models.mateformer.recipe import MateformerRecipe

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = MODELS / "artifacts" / "mateformer"
RECIPE = SHIPPED / "recipe.yaml"
PAPER_SIZE = {"width": 256, "depth": 8, "hidden": 256, "heads": 4}
SMALL_CHANNEL = 16  # antennas, and subcarriers: a million fingerprints of 32 x 32 need too much memory
NEIGHBOURS = 64
CARRIER_HZ = 3.5e9
TILE_M = 2.0  # tile pitch if the recipe has none
_ROOMS = ("artifact", "mateformer", "layers", "pipeline")  # whose code makes an artifact


@dataclass(frozen=True)
class ServedModel:
    """An artifact's folder, which also has the weights, the configuration of its model, and the shape of CSI sent."""

    name: str
    folder: Path
    config: MateformerConfig
    antennas: int = 32
    subcarriers: int = 32

    @property
    def label(self) -> str:
        """A folder name that is unique to the artifact."""
        digest = hashlib.sha256((self.folder / MANIFEST_FILE).read_bytes()).hexdigest()
        return f"d{self.config.width}-{digest[:12]}"

    @property
    def full_graph(self) -> Path:
        manifest = MateformerManifest.model_validate_json((self.folder / MANIFEST_FILE).read_bytes())
        return self.folder / manifest.graphs["full"].file


def shipped() -> ServedModel:
    config = MateformerRecipe.load(RECIPE).config()
    return ServedModel(f"shipped (d {config.width}, N {config.depth})", SHIPPED, config)


def paper_size(folder: Path, antennas: int = 32) -> ServedModel:
    """The paper's d and N with all other options of the shipped recipe, for `antennas` and as many subcarriers.

    Exports the artifact below `folder` once for each state of the code that exports it.
    """
    recipe = _sized(MateformerRecipe.load(RECIPE), antennas)
    sources = [path for room in _ROOMS for path in sorted((MODELS / room).glob("*.py"))]
    marks = [recipe.model_dump_json().encode(), *(source.read_bytes() for source in sources)]
    exported = folder / f"paper-{antennas}-{hashlib.sha256(b''.join(marks)).hexdigest()[:12]}"
    if not (exported / MANIFEST_FILE).exists():  # the manifest is written last
        _export(recipe, exported)
    config = recipe.config()
    return ServedModel(f"d {config.width}, N {config.depth}", exported, config, antennas, antennas)


def _sized(recipe: MateformerRecipe, antennas: int) -> MateformerRecipe:
    array = recipe.radio.array.model_copy(update={"columns": antennas})
    served = recipe.ranges.subcarriers
    subcarriers = Range(minimum=min(antennas, served.minimum), maximum=max(antennas, served.maximum))
    ranges = recipe.ranges.model_copy(update={"subcarriers": subcarriers})
    radio = recipe.radio.model_copy(update={"array": array, "subcarriers": antennas})
    tiles = recipe.retrieval.model_copy(update={"tile_pitch": recipe.retrieval.tile_pitch or TILE_M})
    # All other fields of the recipe are about training, which does not happen here.
    changed = {
        "name": "paper-size",
        "radio": radio,
        "retrieval": tiles,
        "ranges": ranges,
        "model": recipe.model | PAPER_SIZE,
    }
    return recipe.model_copy(update=changed)


def _export(recipe: MateformerRecipe, folder: Path) -> None:
    import torch
    import yaml
    from safetensors.torch import save_file

    from models.mateformer.export import Sample, export
    from models.mateformer.network import Mateformer
    from models.pipeline.export import RECIPE_FILE, WEIGHTS_FILE

    torch.manual_seed(0)
    model, radio = Mateformer(recipe.config()), recipe.radio
    rng = np.random.default_rng(0)
    re, im = rng.standard_normal((2, 2, NEIGHBOURS + 4, radio.array.antennas, radio.subcarriers))
    csi = np.asarray(re + 1j * im, np.complex64)
    channel = ChannelTransform.of(
        radio.array, radio.subcarriers, radio.bandwidth, CARRIER_HZ, None, None, csi.reshape(-1, *csi.shape[2:])
    )
    places = np.asarray(rng.uniform(-5, 5, (*csi.shape[:2], 2)), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / WEIGHTS_FILE)
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    export(
        model,
        recipe,
        folder,
        Sample(channel, csi, places, known=NEIGHBOURS),
        training_data_digest="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        few=True,
    )
