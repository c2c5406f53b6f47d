"""The model card of a SCADF-MoE."""

from __future__ import annotations

from models.artifact import TrajectoryManifest
from models.pipeline.card import write_card
from models.scadf_moe.recipe import ScadfMoERecipe

_TRAINED_WITH = {
    "exact": "the exact path features",
    "measured": "path features with a base station's errors (2 degrees, 1 m, 1 dB)",
    "estimated": "path features estimated from the same CSI",
    "served": "path features that either have a base station's errors (2 degrees, 1 m, 1 dB) or are estimated from the"
    " same CSI",
}


def scadf_moe_card(recipe: ScadfMoERecipe, manifest: TrajectoryManifest, parameters: int) -> str:
    """Markdown: what the model is for and not for, how it was trained, and its accuracy."""
    bands = ", ".join(f"{band / 1e9:g}" for band in manifest.carrier_frequencies)
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in manifest.metrics.items())
    circles = "\n".join(
        f"| {kind} | {radii.vertex:.2f} | {radii.centroid:.2f} |"
        for kind, radii in (("measured", manifest.radii.measured), ("estimated", manifest.radii.estimated))
    )
    phases = " Training snapshots have a random phase." if recipe.phase else ""
    return write_card(
        recipe,
        manifest,
        purpose=f"""SCADF-MoE locates {manifest.vertices} points of a user together. The points lie within \
{manifest.radius:g} m of one of them.
The input is the CSI and four path features of each point: AoD and AoA (azimuths), range (length of the strongest path)
and large-scale gain.
{parameters:,} parameters.

**For** {", ".join(manifest.cells)} only, whose places the model has learned; {manifest.csi.antennas} antennas and
{manifest.csi.subcarriers} subcarriers over {manifest.csi.bandwidth / 1e6:g} MHz at {bands} GHz.

**Not for** any other cell: the model does not compare with fingerprints. Not for the same street after a change.""",
        training=f"""Trained for {recipe.optimiser.steps:,} steps of {recipe.batch} trajectories, ray-traced with \
Sionna RT, with
{_TRAINED_WITH[recipe.path_features]}.{phases}""",
        results=f"""Errors in metres at points of the same streets that training never saw, over all bands:

| | |
|---|---|
{figures}

95 % of the errors are below these radii, which the service states in its answers:

| path features | point (m) | centroid (m) |
|---|---|---|
{circles}""",
    )
