"""The model card: what a reader must know before relying on an artifact."""

from __future__ import annotations

from models.artifact import ArtifactManifest
from models.mateformer import Mateformer
from models.training.recipe import Recipe


def model_card(recipe: Recipe, model: Mateformer, manifest: ArtifactManifest, report_table: str) -> str:
    """Markdown: what the model is for and not for, what made it, and what it was measured to do."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    radio = recipe.radio
    sizes = (
        f"{parameters:,} parameters; width {model.config.width}, depth {model.config.depth}, {model.config.heads} heads"
    )
    grid = (
        f"{radio.subcarriers} subcarriers over {radio.bandwidth / 1e6:g} MHz at {radio.carrier_frequency / 1e9:g} GHz"
    )
    return f"""# {manifest.name} {manifest.version}

Mateformer (ALLoc) locates a user by comparing its CSI with that of {manifest.neighbourhood_size} fingerprints nearby.
{sizes}.

**For** {radio.array.antennas} antennas, {grid}; outdoor users within about 100 m of
the base station; a coarse position within a few metres; at least {manifest.minimum_neighbours} fingerprints nearby.

**Not for** indoor users, other arrays or bands, or coarse positions off by 5 m and more.

Trained for {recipe.optimiser.steps:,} steps on {", ".join(recipe.cells.train)}, ray-traced with Sionna RT and seen by
{radio.yaws} yaws of the array a cell. Settings were chosen on {", ".join(recipe.cells.validation)}.
Held out: {", ".join(recipe.cells.test)}. Clean CSI: no receiver noise, phase or timing error yet.
Recipe sha256 `{recipe.digest}`.

{report_table}
![Share of users by error](report.png)

The recipe ([recipe.yaml](recipe.yaml)) and the training log ([log.jsonl](log.jsonl)) lie beside this card.
Made by {manifest.exporter}, opset {manifest.opset}; torch and ONNX Runtime agree within 1 mm on real CSI.
"""
