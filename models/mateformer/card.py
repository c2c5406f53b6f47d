"""The model card: what a reader must know before relying on an artifact."""

from __future__ import annotations

from models.artifact import ArtifactManifest
from models.mateformer.network import Mateformer
from models.pipeline.recipe import Recipe

UNMEASURED = "Not measured yet: `fingerpost-train evaluate` with `--write` puts the figures here.\n"


def model_card(recipe: Recipe, manifest: ArtifactManifest, table: str | None) -> str:
    """Markdown: what the model is for and not for, what made it, and what it was measured to do (``table``)."""
    config = recipe.config()
    parameters = sum(parameter.numel() for parameter in Mateformer(config).parameters())
    radio = recipe.radio
    grid = (
        f"{radio.subcarriers} subcarriers over {radio.bandwidth / 1e6:g} MHz at {radio.carrier_frequency / 1e9:g} GHz"
    )
    taught = f"; taught by {recipe.teacher.artifact}" if recipe.teacher else ""
    started = f"; started from {recipe.start}" if recipe.start else ""
    figures = UNMEASURED if table is None else f"{table}\n![Share of users by error](evaluation.png)\n"
    return f"""# {manifest.name} {manifest.version}

Mateformer (ALLoc) locates a user by comparing its CSI with that of {manifest.neighbourhood_size} fingerprints nearby.
{parameters:,} parameters; width {config.width}, depth {config.depth}, {config.heads} heads.

**For** {radio.array.antennas} antennas, {grid}; outdoor users within about 100 m of
the base station; at least {manifest.minimum_neighbours} fingerprints nearby. How good the coarse position must be
and how bad the radio may be, the figures below say.

**Not for** indoor users, other arrays or bands.

Trained for {recipe.optimiser.steps:,} steps on {", ".join(recipe.cells.train)}, ray-traced with Sionna RT and seen by
{radio.yaws} yaws of the array a cell; {_radios(recipe)}{taught}{started}.
Settings were chosen on {", ".join(recipe.cells.validation)}.
Held out: {", ".join(recipe.cells.test)}.
Recipe sha256 `{recipe.digest}`.

{figures}
The recipe ([recipe.yaml](recipe.yaml)) and the training log ([log.jsonl](log.jsonl)) lie beside this card.
Made by {manifest.exporter}, opset {manifest.opset}; torch and ONNX Runtime agree within 1 mm on real CSI.
"""


def _radios(recipe: Recipe) -> str:
    share, worst = recipe.radios.impaired, recipe.radios.worst
    effects = [
        (worst.snr_db is not None, f"SNR {worst.snr_db} dB"),
        (worst.phase, "random phase"),
        (worst.timing_s > 0, f"timing ± {worst.timing_s * 1e9:g} ns"),
        (worst.gain_db > 0, f"gain {worst.gain_db:g} dB"),
        (worst.dead_antennas > 0, f"dead antennas {worst.dead_antennas}"),
        (worst.bits is not None, f"{worst.bits} bit"),
    ]
    named = ", ".join(words for present, words in effects if present)
    return f"{100 * share:g} % of the neighbourhoods by radios up to {named}" if share and named else "clean CSI only"
