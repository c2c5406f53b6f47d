"""The model card of a Mateformer."""

from __future__ import annotations

from models.artifact import RADII_CONFIDENCE, MateformerManifest, RadioContract, Range
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.card import write_card

UNMEASURED = "Not measured yet. `fingerpost-train evaluate ARTIFACT --write` adds the results here."
_SHOWN = " The results below show the effect of sparse surveys, of bad radios and clocks, and of a bad coarse position."


def mateformer_card(recipe: MateformerRecipe, manifest: MateformerManifest, table: str | None) -> str:
    """Markdown. ``table`` holds the results of an evaluation, if there was one."""
    config, radio = recipe.config(), recipe.radio
    parameters = sum(parameter.numel() for parameter in Mateformer(config).parameters())
    start = f" Training started from {recipe.start}." if recipe.start else ""
    return write_card(
        recipe,
        manifest,
        purpose=f"""Mateformer (ALLoc) locates a user by comparing its CSI with that of \
{manifest.neighbourhood_size} fingerprints nearby, and says how sure it is.
{parameters:,} parameters: width {config.width}, depth {config.depth}, {config.heads} heads.

**For** {_describe_use(recipe)}: {describe_ranges(manifest.csi)}; outdoor users within about 100 m of the base
station; cells of at least {manifest.fewest_fingerprints(RADII_CONFIDENCE)} fingerprints.{_SHOWN if table else ""}

**Not for** radios outside these ranges, which an import refuses, and not measured indoors.\
{_describe_limits(recipe)}""",
        training=f"""Trained for {recipe.optimiser.steps:,} steps on {_describe_cells(recipe)}.
Each traced cell is seen by {recipe.views.each} radios: a share of {recipe.views.own:g} by {radio.array.rows} x \
{radio.array.columns} antennas and {radio.subcarriers} subcarriers over {radio.bandwidth / 1e6:g} MHz at \
{radio.carrier_frequency / 1e9:g} GHz, the others drawn from the ranges. {_describe_radios(recipe)}{start}
Settings were chosen on {", ".join(recipe.cells.validation) or "no cell"}.
Held out: {_describe_held_out(recipe)}.""",
        results=_describe_few(manifest)
        + describe_tracks(manifest)
        + (UNMEASURED if table is None else f"{table}\n![Share of users by error](evaluation.png)"),
    )


def _describe_few(manifest: MateformerManifest) -> str:
    if "query_few" not in manifest.graphs:
        return ""
    return """On a CPU, runs of few users use weights in 8 bits (`query_few.onnx`). `evaluate` measures `query.onnx`;
`fingerpost-train quantise` compares both.

"""


TRACKS_HEADING = "**Tracks.**"


def describe_tracks(manifest: MateformerManifest) -> str:
    """A paragraph, empty for an artifact that locates no tracks."""
    if manifest.tracks is None:
        return ""
    return f"""{TRACKS_HEADING} Up to {manifest.tracks.snapshots} snapshots of one user, at most \
{manifest.tracks.stride:g} m apart, are also located together (`track.onnx`): a small network reads both streams of each
snapshot and corrects a Kalman smoother. Recipe [tracks.yaml](tracks.yaml), log [tracks.log.jsonl](tracks.log.jsonl).

"""


def replace_tracks(card: str, manifest: MateformerManifest) -> str:
    """The card of an artifact with the paragraph on tracks of this manifest."""
    paragraphs = card.split("\n\n")
    others = [one for one in paragraphs if not one.startswith(TRACKS_HEADING)]
    return "\n\n".join([*others[:-1], describe_tracks(manifest).rstrip(), others[-1]])


def _describe_use(recipe: MateformerRecipe) -> str:
    if recipe.cells.fingerprints:
        return "the radio of the measured cells below. The service accepts any radio in these ranges"
    return "any radio in these ranges"


def _describe_limits(recipe: MateformerRecipe) -> str:
    """What fine-tuning leaves open."""
    if not recipe.cells.fingerprints:
        return ""
    traced = f"{', '.join(recipe.cells.train)} and " if recipe.cells.train else ""
    return (
        f"\n\n**Limits.** This training, of {recipe.optimiser.steps:,} steps, saw only {traced}the measured"
        " cells. It may have made other cells and other radios worse: compare with the model that it started from"
        " before you activate it. The held-out locations are of the same surveys, so they say nothing about other"
        " streets, other days and other receivers."
    )


def _describe_cells(recipe: MateformerRecipe) -> str:
    cells = recipe.cells
    traced = f"{', '.join(cells.train)}, ray-traced with Sionna RT" if cells.train else ""
    files = ", ".join(one if isinstance(one, str) else one.file for one in cells.fingerprints)
    measured = f"the measured fingerprints of {files}" if files else ""
    return " and ".join(filter(None, (traced, measured)))


def _describe_held_out(recipe: MateformerRecipe) -> str:
    cells = recipe.cells
    share = f"{100 * cells.held_out:g} % of the measured locations" if cells.fingerprints else ""
    return ", ".join(filter(None, (*cells.test, share)))


def describe_ranges(csi: RadioContract) -> str:
    def between(values: Range, one: float = 1.0, unit: str = "") -> str:
        ends = dict.fromkeys(f"{end / one:g}" for end in (values.minimum, values.maximum))
        return " to ".join(ends) + unit

    return (
        f"{between(csi.antennas)} antennas in {between(csi.rows)} rows and {between(csi.columns)} columns,"
        f" {between(csi.spacing)} wavelengths apart, of {between(csi.polarisations)} polarisations;"
        f" {between(csi.subcarriers)} subcarriers over {between(csi.bandwidth, 1e6, ' MHz')} at"
        f" {between(csi.carrier_frequency, 1e9, ' GHz')}"
    )


def _describe_radios(recipe: MateformerRecipe) -> str:
    radios, worst = recipe.radios, recipe.radios.worst
    effects = [
        (worst.snr_db is not None, f"SNR {worst.snr_db} dB"),
        (worst.phase, "random phase"),
        (worst.timing_s > 0, f"timing ± {worst.timing_s * 1e9:g} ns"),
        (worst.gain_db > 0, f"gain {worst.gain_db:g} dB"),
        (worst.dead_antennas > 0, f"dead antennas {worst.dead_antennas}"),
        (worst.bits is not None, f"{worst.bits} bit"),
    ]
    named = ", ".join(words for present, words in effects if present)
    share = radios.impaired + radios.apart + radios.surveyed
    if not (share and named):
        return "The CSI is clean."
    return (
        f"In {100 * share:g} % of the neighbourhoods the radios are impaired, at worst by {named}: survey and users"
        f" alike in {100 * radios.impaired:g} %, each in its own way in {100 * radios.apart:g} %, the users alone in"
        f" {100 * radios.surveyed:g} %."
    )
