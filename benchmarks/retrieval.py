"""LWLM's embedding as the index of a cell's fingerprints, beside the angle-delay spectra that the service searches.

``python -m benchmarks.retrieval`` locates the users of the two shipped cells of florence without a coarse position,
with a perfect radio and with street radio (20 dB SNR, random phase, sampling-time offsets of 20 ns) for fingerprints
and users alike. *Recall* is the share of the 32 fingerprints nearest to a user that are among the 32 most similar ones.
*kNN* averages the positions of those 32, weighted by a power of their distance. *Mateformer* is the shipped model,
whose first guess those 32 vote for, by the service's own code.

Each embedding is compared raw (Euclidean distance), scaled to unit norm (cosine), and whitened by the principal
components of the cell's own fingerprints. All features have two halves, of the snapshot after delay compensation and as
measured. Their weight and the power of the distance are chosen per cell and feature: those that locate a sample of the
cell's own fingerprints best (leave-one-out). "As served" are the service's own index and power. ``--pretraining RUN``
adds the encoder as it was before the decoders were trained, ``--surveys FOLDER`` locates the users of other survey
files first.

The service keeps the angle-delay spectra: see "LWLM's features for the others" in `docs/explain/accuracy.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.markdown import table
from models.artifact import LwlmArtifact, LwlmManifest, MateformerManifest, load_artifact
from models.artifact.channel_transform import ChannelTransform
from models.lwlm.network import normalise
from models.lwlm.pretraining import load_encoder
from models.lwlm.recipe import LwlmRecipe
from models.mateformer.conditions import PERFECT, STREET
from models.mateformer.evaluation import TRANSFORM_SNAPSHOTS
from models.mateformer.locators import Locator, OnnxLocator
from models.radio.impairments import Impairments, impair
from reference_db import Cell, References, read_fingerprint_file, signal_feature
from reference_db.index.signal import SHARPNESS
from reference_db.references import DELAY_WEIGHTS
from reference_db.retrieval import Voters, guess_by_voters, next_neighbourhood

ARTIFACTS = Path("models/artifacts")
DATA = Path(__file__).parent / "data"
RESULT = Path(__file__).parent / "results" / "retrieval.md"
RECIPE = Path("models/lwlm/recipes/lwlm.yaml")
RADIOS = {"perfect": PERFECT, "street": STREET}
NEAREST = 32
POWERS = (1.0, 2.0, 4.0, 8.0, 12.0, float(SHARPNESS), 36.0)
COMPONENTS = 48  # of a whitened embedding; further ones are mostly noise
CHOSEN_BY = 300  # fingerprints, each located by all others
AT_ONCE = 64
SEED = 11

Treatment = Literal["raw", "unit norm", "whitened", "whitened, unit norm"]

_Csi = NDArray[np.complex64]
_Floats = NDArray[np.float32]
Embed = Callable[[_Csi, Cell], _Floats]  # CSI [n, antennas, subcarriers] -> [n, D]


class Survey(NamedTuple):
    """A cell's fingerprints and users as a radio sees them."""

    cell: Cell
    csi: _Csi
    positions: _Floats
    users: _Csi
    truth: _Floats


class Halves(NamedTuple):
    """Vectors of snapshots after delay compensation and as measured, both `[n, D]`."""

    compensated: _Floats
    measured: _Floats


@dataclass(frozen=True)
class Score:
    """Recall of each user, and errors in metres."""

    recall: _Floats
    knn: _Floats
    mateformer: _Floats


def read_surveys(folder: Path, radio: Impairments) -> Iterator[Survey]:
    """The surveys ``<cell>-references.safetensors`` and ``<cell>-users.safetensors`` of a folder."""
    for file in sorted(folder.glob("*-references.safetensors")):
        cell, fingerprints = read_fingerprint_file(file)
        _, users = read_fingerprint_file(file.with_name(file.name.replace("-references", "-users")))
        generator = torch.Generator().manual_seed(SEED)
        csi, seen = (
            impair(torch.from_numpy(each.csi.copy()), radio, cell.bandwidth, generator).numpy()
            for each in (fingerprints, users)
        )
        yield Survey(cell, csi, fingerprints.positions, seen, users.positions)


def embed_by_artifact(artifact: LwlmArtifact) -> Embed:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(artifact.graphs["full"], options, providers=["CPUExecutionProvider"])

    def embed(csi: _Csi, cell: Cell) -> _Floats:
        configuration = np.array([[cell.bandwidth, cell.height]], np.float32)  # does not change the embedding
        parts = [
            session.run(["embedding"], {"csi": some, "configuration": np.repeat(configuration, len(some), axis=0)})[0]
            for some in _split(csi)
        ]
        return np.concatenate(parts)

    return embed


def embed_by_pretraining(folder: Path) -> Embed:
    """As the artifact's graph does: the class token, then the mean of the other tokens."""
    encoder = load_encoder(folder, LwlmRecipe.load(RECIPE).for_pretraining()).eval()

    def embed(csi: _Csi, cell: Cell) -> _Floats:
        with torch.inference_mode():
            encoded = [encoder(normalise(torch.from_numpy(some))) for some in _split(csi)]
            return torch.cat([torch.cat([one.summary, one.tokens.mean(1)], dim=-1) for one in encoded]).numpy()

    return embed


def _split(csi: _Csi) -> Iterator[_Floats]:
    for first in range(0, len(csi), AT_ONCE):
        yield np.ascontiguousarray(csi[first : first + AT_ONCE])[..., None].view(np.float32)


def compensate_delay(csi: _Csi) -> _Csi:
    """Snapshots `[n, antennas, subcarriers]` without their mean delay, as in `signal_feature`."""
    step = np.angle((csi[..., 1:] * csi[..., :-1].conj()).sum(axis=(1, 2)))
    compensated: _Csi = (csi * np.exp(-1j * step[:, None] * np.arange(csi.shape[2]))[:, None]).astype(np.complex64)
    return compensated


def angle_delay_halves(csi: _Csi) -> Halves:
    return Halves(*np.split(signal_feature(csi), 2, axis=1))


def treat(known: _Floats, asked: _Floats, treatment: Treatment) -> tuple[_Floats, _Floats]:
    """Embeddings of fingerprints and of users, by which they are compared. Both are scaled by the fingerprints."""
    if treatment.startswith("whitened"):
        centre = known.mean(axis=0)
        _, spread, directions = np.linalg.svd(known - centre, full_matrices=False)
        scaled = directions[:COMPONENTS].T / spread[:COMPONENTS]
        known, asked = (known - centre) @ scaled, (asked - centre) @ scaled
    if treatment.endswith("unit norm"):
        known, asked = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (known, asked))
    scale = np.float32(np.sqrt(np.square(known).sum(axis=1).mean()))  # so that the two halves weigh alike
    return known / scale, asked / scale


def squared_distances(asked: _Floats, known: _Floats) -> _Floats:
    """`[u, D]`, `[r, D]` -> `[u, r]`"""
    a, b = asked.astype(np.float64), known.astype(np.float64)
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    return np.maximum(squared, 1e-12).astype(np.float32)


class Choice(NamedTuple):
    weight: float  # of the half with absolute delays
    power: float


def choose(known: Halves, positions: _Floats) -> Choice:
    """The weight and the power that locate a sample of the cell's own fingerprints best."""
    rows = np.random.default_rng(0).permutation(len(positions))[:CHOSEN_BY]
    halves = [squared_distances(half[rows], half) for half in known]
    for half in halves:
        half[np.arange(len(rows)), rows] = np.inf
    errors = {}
    for weight in (0.0, *DELAY_WEIGHTS):
        voters = find_nearest(mix(halves, weight))
        for power in POWERS:
            found = average(voters, positions, power)
            errors[Choice(weight, power)] = float(np.linalg.norm(found - positions[rows], axis=1).mean())
    return min(errors, key=errors.__getitem__)


def mix(halves: Sequence[_Floats], weight: float) -> _Floats:
    compensated, measured = halves
    if weight in (0.0, 1.0):  # infinity times zero is no distance
        return np.sqrt(measured if weight else compensated)
    return np.sqrt((1 - weight) * compensated + weight * measured)


def find_nearest(distances: _Floats) -> Voters:
    """The `NEAREST` most similar fingerprints of distances `[u, r]`, most similar first."""
    some = np.argpartition(distances, NEAREST - 1, axis=1)[:, :NEAREST]
    order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1)
    rows = np.take_along_axis(some, order, axis=1)
    return Voters(rows, np.take_along_axis(distances, rows, axis=1))


def average(voters: Voters, positions: _Floats, power: float) -> _Floats:
    """Positions `[u, 2]`: the mean of the voters', weighted by their distance to the power of ``-power``."""
    weights = (voters.distances[:, :1] / np.maximum(voters.distances, 1e-6)) ** power
    found: _Floats = np.einsum("uk,ukx->ux", weights / weights.sum(axis=1, keepdims=True), positions[voters.rows])
    return found


def measure_recall(rows: NDArray[np.int64], truth: _Floats, positions: _Floats) -> _Floats:
    """The share, for each user, of the `NEAREST` fingerprints around the true position that are among `rows`."""
    apart = np.linalg.norm(positions - truth[:, None], axis=2)
    nearest = np.argsort(apart, axis=1)[:, :NEAREST]
    return (nearest[:, :, None] == rows[:, None]).any(axis=2).mean(axis=1).astype(np.float32)


def find_by_halves(survey: Survey, known: Halves, asked: Halves) -> tuple[Voters, float]:
    """The most similar fingerprints of each user, and the power of their distance that they count by."""
    weight, power = choose(known, survey.positions)
    distances = mix([squared_distances(*pair) for pair in zip(asked, known, strict=True)], weight)
    return find_nearest(distances), power


def score(survey: Survey, references: References, voters: Voters, power: float, locator: Locator) -> Score:
    """How well the voters find each user's neighbourhood."""
    nowhere = np.full_like(survey.truth, np.nan)
    # `guess_by_voters` weighs by a fixed power.
    likely = Voters(voters.rows, voters.distances ** np.float32(power / SHARPNESS))
    places = guess_by_voters(references, likely, nowhere, nowhere[:, 0])
    located = locate_by_mateformer(survey, references, places, locator)
    averaged = average(voters, survey.positions, power)
    return Score(
        measure_recall(voters.rows, survey.truth, survey.positions),
        np.linalg.norm(averaged - survey.truth, axis=1),
        np.linalg.norm(located - survey.truth, axis=1),
    )


def locate_by_mateformer(survey: Survey, references: References, places: _Floats, locator: Locator) -> _Floats:
    manifest = load_artifact(ARTIFACTS / "mateformer", MateformerManifest).manifest
    near = next_neighbourhood(references, places, manifest.neighbourhood_size, pitch=manifest.tile_pitch)
    cell = survey.cell
    channel = ChannelTransform.of_cell(cell, survey.csi[:TRANSFORM_SNAPSHOTS])
    known, asked = locator.describe(channel, survey.csi), locator.describe(channel, survey.users)
    located = []
    for first in range(0, len(near), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        rows = near[some]
        exact = np.zeros(rows.shape, np.float32)
        nowhere = np.zeros((len(rows), 1, 2), np.float32), np.full((len(rows), 1), np.inf, np.float32)
        found = locator.locate(known[rows], survey.positions[rows], exact, asked[some, None], *nowhere)
        located.append(found.positions[:, 0])
    return np.concatenate(located)


def compare(survey: Survey, encoders: dict[str, Embed], locator: Locator) -> Iterator[tuple[str, Score]]:
    """The scores of the angle-delay spectra, then those of every encoder with every treatment."""
    references = References.of(survey.positions, survey.csi)
    features = [angle_delay_halves(csi) for csi in (survey.csi, survey.users)]
    served = Voters(*references.signals.nearest(np.concatenate(features[1], axis=1), NEAREST))
    yield "angle-delay spectra, as served", score(survey, references, served, SHARPNESS, locator)
    yield "angle-delay spectra", score(survey, references, *find_by_halves(survey, *features), locator)
    for name, embed in encoders.items():
        both = [
            (embed(view(survey.csi), survey.cell), embed(view(survey.users), survey.cell))
            for view in (compensate_delay, np.asarray)
        ]
        for treatment in get_args(Treatment):
            treated = [treat(known, asked, treatment) for known, asked in both]
            known, asked = (Halves(*each) for each in zip(*treated, strict=True))
            yield f"{name}, {treatment}", score(survey, references, *find_by_halves(survey, known, asked), locator)


def rows_of(folder: Path, encoders: dict[str, Embed], locator: Locator) -> Iterator[list[str]]:
    """A row for each radio and feature: means over the users of all surveys of a folder."""
    for name, radio in RADIOS.items():
        scores: dict[str, list[Score]] = {}
        for survey in read_surveys(folder, radio):
            for feature, found in compare(survey, encoders, locator):
                scores.setdefault(feature, []).append(found)
        for feature, of_cells in scores.items():
            recall, knn, mateformer = (
                np.concatenate([getattr(one, part) for one in of_cells]) for part in ("recall", "knn", "mateformer")
            )
            row = [name, feature, f"{recall.mean():.1%}", describe(knn), describe(mateformer)]
            print(row, flush=True)
            yield row


def describe(errors: _Floats) -> str:
    return f"{errors.mean():.2f} / {np.median(errors):.2f} / {np.quantile(errors, 0.9):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare indices of a cell's fingerprints.")
    parser.add_argument("--artifact", type=Path, default=ARTIFACTS / "lwlm", help="LWLM's artifact")
    parser.add_argument("--pretraining", type=Path, help="folder of a pretraining's run, which needs PyTorch")
    parser.add_argument("--surveys", type=Path, help="folder of further survey files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoders = {"LWLM": embed_by_artifact(load_artifact(arguments.artifact, LwlmManifest))}
    if arguments.pretraining is not None:
        encoders["LWLM, pretrained only"] = embed_by_pretraining(arguments.pretraining)
    locator = OnnxLocator(load_artifact(ARTIFACTS / "mateformer", MateformerManifest), threads=1)
    head = ["radio", "feature", f"recall@{NEAREST}", "kNN: mean / median / p90 (m)", "Mateformer"]
    lines = ["    python -m benchmarks.retrieval", "", (__doc__ or "").partition("\n")[2].strip(), ""]
    for folder in filter(None, (arguments.surveys, DATA)):
        cells = [file.name.removesuffix("-references.safetensors") for file in sorted(folder.glob("*-references.*"))]
        lines += [f"## {', '.join(cells)}", "", table(head, rows_of(folder, encoders, locator)), ""]
    RESULT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
