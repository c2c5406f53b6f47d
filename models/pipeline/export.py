"""What the exports of all families share: parity with PyTorch, the artifact's files, the record of its training."""

from __future__ import annotations

import shutil
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from models.artifact import MANIFEST_FILE, BaseManifest
from models.errors import TrainerError
from models.pipeline.learner import LOG_FILE
from models.pipeline.recipe import BaseRecipe

PARITY_M = 1e-3
CARD_FILE, RECIPE_FILE, WEIGHTS_FILE = "README.md", "recipe.yaml", "weights.safetensors"

Module = TypeVar("Module", bound=nn.Module)


class ParityLost(TrainerError):
    """The answers of ONNX Runtime and PyTorch differ by more than the limit."""


def round_weights(model: Module) -> Module:
    """A copy with every weight rounded to half precision.

    The graphs store such weights in half the space and compute with them in single precision.
    """
    rounded = deepcopy(model)
    with torch.no_grad():
        for weights in rounded.parameters():
            weights.copy_(weights.half())
    return rounded


def require_parity(what: str, answers: NDArray[np.floating], expected: NDArray[np.floating], limit_m: float) -> float:
    """The largest distance in metres between answers [..., 2] and expected ones. Raises `ParityLost`."""
    worst = float(np.linalg.norm(answers - expected, axis=-1).max())
    if not worst <= limit_m:  # NaN fails too
        raise ParityLost(
            f"{what}: ONNX Runtime and PyTorch differ by {1000 * worst:.3f} mm; the limit is {1000 * limit_m:g} mm"
        )
    return worst


def current_time() -> str:
    """For a manifest's ``created_at``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def exporter_versions() -> str:
    """For a manifest's ``exporter``."""
    return f"torch {torch.__version__}, onnx {onnx.__version__}"


def write_description(folder: Path, manifest: BaseManifest, card: str) -> None:
    """Writes the manifest and the model card next to the graphs."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / CARD_FILE).write_text(card)


def write_training_record(folder: Path, recipe: BaseRecipe, model: nn.Module, run: Path) -> None:
    """Writes recipe, training log and weights into an artifact's folder.

    The weights are in half precision: training continues from them, but nothing is located with them.
    """
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    shutil.copy(run / LOG_FILE, folder)
    save_file({name: weights.half() for name, weights in model.state_dict().items()}, folder / WEIGHTS_FILE)
