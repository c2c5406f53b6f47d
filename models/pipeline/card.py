"""The frame of every model card: what a reader must know before relying on an artifact."""

from __future__ import annotations

from models.artifact import BaseManifest
from models.pipeline.recipe import BaseRecipe


def write_card(recipe: BaseRecipe, manifest: BaseManifest, purpose: str, training: str, results: str) -> str:
    """Markdown. ``purpose`` says what the model is for and not for, ``training`` what it learned from."""
    return f"""# {manifest.name} {manifest.version}

{purpose}

{training}
Recipe sha256 `{recipe.digest}`.

{results}

The recipe ([recipe.yaml](recipe.yaml)) and the training log ([log.jsonl](log.jsonl)) are next to this card.
Exporter: {manifest.exporter}, opset {manifest.opset}. PyTorch and ONNX Runtime agree within 1 mm.
"""
