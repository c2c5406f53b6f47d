"""The model card of an LWLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from models.artifact import LwlmManifest
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.card import write_card
from models.pipeline.tables import markdown_table

# Shares of errors within the stated intervals and ellipses, by confidence in per cent.
Coverage: TypeAlias = Mapping[str, Mapping[int, float]]

REACH_M = 150.0  # most links of the training streets are shorter


def lwlm_card(recipe: LwlmRecipe, manifest: LwlmManifest, parameters: int, coverage: Coverage) -> str:
    """Markdown: what the model is for and not for, how it was trained, and its accuracy per task."""
    csi = manifest.csi
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in manifest.metrics.items())
    antennas, subcarriers = (", ".join(map(str, counts)) for counts in (csi.antennas, csi.subcarriers))
    bandwidths = f"{csi.minimum_bandwidth / 1e6:g} to {csi.maximum_bandwidth / 1e6:g} MHz"
    carriers = f"{csi.minimum_carrier_frequency / 1e9:g} to {csi.maximum_carrier_frequency / 1e9:g} GHz"
    return write_card(
        recipe,
        manifest,
        purpose=f"""LWLM measures one snapshot of one base station: range and angle of the first path, line of sight,
and the user's position without any fingerprints. Two to {manifest.stations} base stations of one user are joined.
The encoder learned from unlabelled CSI by three objectives. The decoders correct classical estimates of the first path
(a matched filter and a beamformer in the graph). {parameters:,} parameters.

**For** linear arrays of {antennas} antennas at {csi.spacing:g} wavelengths, {subcarriers} subcarriers over {bandwidths}
at {carriers}. The service refuses a cell outside these ranges by name.

**Not for** unsynchronised clocks: a sampling-time offset of 10 ns moves the range by 3 m, and the model does not
notice. Not for users behind the array: a linear array cannot tell front from back. Not for indoor cells, which
training never saw, nor for ranges far beyond {REACH_M:g} m. Positions of users without line of sight are coarse; their
predicted spreads say so.""",
        training=f"""The encoder was trained for {recipe.optimiser.steps:,} steps of {recipe.objectives.batch} users,
each seen twice, on streets {", ".join(recipe.streets.train)} with {recipe.streets.stations} base stations each,
ray-traced with Sionna RT; the decoders for {recipe.decoding.optimiser.steps:,} steps of {recipe.decoding.batch} users
with all their base stations. Snapshots have a signal-to-noise ratio of 20 dB and perfect clocks.""",
        results=f"""Mean errors in streets of a city that training never saw ({", ".join(recipe.streets.test)}), over
all bandwidths and antennas of the recipe:

| | |
|---|---|
{figures}

How many of these errors lie inside the stated intervals and ellipses, in per cent, by confidence. Spreads are
calibrated on other streets of the training cities ({", ".join(recipe.streets.validation)}), so the coverage in a
new city differs from the confidence:

{coverage_table(coverage)}""",
    )


def coverage_table(coverage: Coverage) -> str:
    """Markdown."""
    confidences = next(iter(coverage.values()))
    head = ["", *(f"{one} %" for one in confidences)]
    return markdown_table(
        head, [[name, *(f"{100 * one:.1f}" for one in some.values())] for name, some in coverage.items()]
    )
