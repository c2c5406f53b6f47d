"""The model card of a Mateformer."""

from __future__ import annotations

from models.artifact import RADII_CONFIDENCE, MateformerManifest
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.card import write_card

UNMEASURED = "Not measured yet. `fingerpost-train evaluate ARTIFACT --write` adds the results here."


def mateformer_card(recipe: MateformerRecipe, manifest: MateformerManifest, table: str | None) -> str:
    """Markdown. ``table`` holds the results of an evaluation, if there was one."""
    config, radio = recipe.config(), recipe.radio
    parameters = sum(parameter.numel() for parameter in Mateformer(config).parameters())
    start = f" Training started from {recipe.start}." if recipe.start else ""
    teacher = f" Teacher: {recipe.teacher.artifact}." if recipe.teacher else ""
    return write_card(
        recipe,
        manifest,
        purpose=f"""Mateformer (ALLoc) locates a user by comparing its CSI with that of \
{manifest.neighbourhood_size} fingerprints nearby.
{parameters:,} parameters: width {config.width}, depth {config.depth}, {config.heads} heads.

**For** {radio.array.antennas} antennas and {radio.subcarriers} subcarriers over {radio.bandwidth / 1e6:g} MHz at \
{radio.carrier_frequency / 1e9:g} GHz; outdoor users within about 100 m of
the base station; cells of at least {manifest.fewest_fingerprints(RADII_CONFIDENCE)} fingerprints. The results below \
show the effect of a bad coarse position
and of a bad radio.

**Not for** indoor users, other arrays or other bands.""",
        training=f"""Trained for {recipe.optimiser.steps:,} steps on {", ".join(recipe.cells.train)}. The cells are \
ray-traced with Sionna RT and seen at
{radio.yaws} yaws of the array; {_describe_radios(recipe)}.{teacher}{start}
Settings were chosen on {", ".join(recipe.cells.validation)}.
Held out: {", ".join(recipe.cells.test)}.""",
        results=UNMEASURED if table is None else f"{table}\n![Share of users by error](evaluation.png)",
    )


def _describe_radios(recipe: MateformerRecipe) -> str:
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
    if not (share and named):
        return "the CSI is clean"
    return f"in {100 * share:g} % of the neighbourhoods the radio is impaired, at worst by {named}"
