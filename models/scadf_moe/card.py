"""The model card of a SCADF-MoE."""

from __future__ import annotations

from models.artifact import TrajectoryManifest
from models.pipeline.card import write_card
from models.scadf_moe.calibration import Checks, write_checks
from models.scadf_moe.recipe import ScadfMoERecipe

_TRAINED_WITH = {
    "exact": "the exact path features",
    "measured": "path features with a base station's errors (2 degrees, 1 m, 1 dB)",
    "estimated": "path features estimated from the same CSI",
    "served": "path features that either have a base station's errors (2 degrees, 1 m, 1 dB) or are estimated from the"
    " same CSI",
}


def scadf_moe_card(recipe: ScadfMoERecipe, manifest: TrajectoryManifest, parameters: int, checks: Checks) -> str:
    """Markdown: what the model is for and not for, how it was trained, and its accuracy."""
    bands = ", ".join(f"{band / 1e9:g}" for band in manifest.carrier_frequencies)
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in manifest.metrics.items())
    certainty = recipe.certainty
    assert certainty is not None  # such models only are exported
    calibrated, checked = (next(iter(part.values())).points for part in checks)
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
        results=f"""The covariances were learned last, with all other weights frozen, from points that training never \
saw. They were
calibrated on other such points, and checked on others again. All points of a trajectory serve one of these purposes.
{calibrated} different points calibrate and {checked} check, in {certainty.trajectories:,} trajectories per band and \
source of path
features, so coverages are known to one or two per cent only.

Errors in metres and shares of the check, over all bands:

| | |
|---|---|
{figures}

How many of the checked estimates lie inside the stated ellipses, in per cent, by confidence. Beside them one circle for
all: the radius that holds 95 % of the errors of the calibration, which version 1 of this model stated.

{write_checks(checks, manifest.scales)}""",
    )
