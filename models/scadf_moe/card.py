"""The model card of an artifact for trajectories."""

from __future__ import annotations

from models.artifact import TrajectoryManifest
from models.scadf_moe.recipe import TrajectoryRecipe

_SEEN = {
    "exact": "the strongest path's exact cues",
    "measured": "cues with a base station's errors (2 degrees, 1 m, 1 dB)",
    "estimated": "cues estimated from the same CSI",
    "served": "cues either with a base station's errors (2 degrees, 1 m, 1 dB) or estimated from the same CSI",
}


def trajectory_card(recipe: TrajectoryRecipe, manifest: TrajectoryManifest, parameters: int) -> str:
    """Markdown: what the network is for and not for, what made it, and how far to trust it."""
    bands = ", ".join(f"{band / 1e9:g}" for band in manifest.carrier_frequencies)
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in manifest.metrics.items())
    circles = "\n".join(
        f"| {kind} | {radii.vertex:.2f} | {radii.centroid:.2f} |"
        for kind, radii in (("measured", manifest.radii.measured), ("estimated", manifest.radii.estimated))
    )
    return f"""# {manifest.name} {manifest.version}

SCADF-MoE locates {manifest.vertices} points of a user within {manifest.radius:g} m of one of them together, by their
CSI and four cues of each: azimuths of departure and arrival, length of the strongest path, large-scale gain.
{parameters:,} parameters.

**For** {", ".join(manifest.cells)} alone, whose places it has learned; {manifest.csi.antennas} antennas,
{manifest.csi.subcarriers} subcarriers over {manifest.csi.bandwidth / 1e6:g} MHz at {bands} GHz.

**Not for** any other cell: it knows no fingerprints to compare with. Nor once the street has changed.

Trained for {recipe.optimiser.steps:,} steps of {recipe.batch} trajectories, ray-traced with Sionna RT, with
{_SEEN[recipe.cues]}{", phases at random" if recipe.phase else ""}. Recipe sha256 `{recipe.digest}`.

At points of the same streets that training never saw (metres; all bands; *measured* as above):

| | |
|---|---|
{figures}

Of 95 % the error lies below (these are the circles that a service states):

| cues | point (m) | centroid (m) |
|---|---|---|
{circles}

The recipe ([recipe.yaml](recipe.yaml)) and the training log ([log.jsonl](log.jsonl)) lie beside this card.
Made by {manifest.exporter}, opset {manifest.opset}; torch and ONNX Runtime agree within 1 mm.
"""
