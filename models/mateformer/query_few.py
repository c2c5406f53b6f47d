"""The graph ``query_few``: ``query`` with weights in 8 bits, for runs with few users.

One user reads all weights, and reading is most of what its run costs. Many users share the reading and pay for the
arithmetic, which is no faster in 8 bits. So the service runs ``query_few`` for few users and ``query`` for many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from models.artifact import MANIFEST_FILE, Graph, MateformerArtifact
from models.artifact.channel_transform import ChannelTransform
from models.errors import TrainerError
from models.mateformer.locators import OnnxLocator, Positions
from models.mateformer.measured import MeasuredCell, load_measured_cells
from models.pipeline.eight_bits import quantise
from models.pipeline.export import ParityLost
from reference_db.index.position import PositionIndex

QUERY, QUERY_FEW = "query", "query_few"
# Mean squared distance between the estimates of both graphs, in stated variances on one axis. If errors are as large as
# stated, the mean error grows by half of it: by 1 %.
SHIFT_LIMIT = 0.02
SPREADS_APART = 0.1  # of the sizes of ellipses: their mean ratio is within this of 1
USERS = 200  # of each cell of fingerprints that both graphs are compared with
FRAMES_AT_ONCE = 8
SAMPLE = 256  # fingerprints that a cell's scale and delay origin are measured on
COARSE_M = 1.0  # error of every other user's coarse position, 1 sigma on each axis


class NoFrames(TrainerError):
    """The artifact has no graph ``query``: its users share no frames."""


def quantise_query(query: bytes) -> bytes:
    """The graph ``query_few`` made of ``query``, both as the content of an ONNX file.

    The map that takes all features of a channel keeps its weights: half of the rounding error would come from it, and
    a fifth of the bytes.
    """
    model = onnx.load_from_string(query)
    (features,) = (one.type.tensor_type.shape.dim[-1].dim_value for one in model.graph.input if one.name == "features")
    content: bytes = quantise(model, kept=lambda weights: weights.shape[1] > features).SerializeToString()
    return content


def describe_query_few(query: Graph, content: bytes) -> Graph:
    """The manifest's entry of ``query_few``, which takes and returns what ``query`` does."""
    return query.model_copy(update={"file": f"{QUERY_FEW}.onnx", "sha256": hashlib.sha256(content).hexdigest()})


def require_few_parity(few: Positions, many: Positions) -> float:
    """How far the estimates of ``query_few`` are from those of ``query``, in the unit of `SHIFT_LIMIT`.

    Raises `ParityLost` above `SHIFT_LIMIT`, and where ellipses differ in size by more than `SPREADS_APART`.
    """
    moved = (few.positions - many.positions).reshape(-1, 2).astype(np.float64)
    stated = many.covariances.reshape(-1, 2, 2).astype(np.float64)
    shift = float(np.einsum("ni,nij,nj->n", moved, np.linalg.inv(stated), moved).mean()) / 2
    areas = np.linalg.det(few.covariances.reshape(-1, 2, 2).astype(np.float64)) / np.linalg.det(stated)
    ratio = float(np.sqrt(areas).mean())
    if not (shift <= SHIFT_LIMIT and abs(ratio - 1) <= SPREADS_APART):  # NaN fails too
        raise ParityLost(
            f"{QUERY_FEW}: its estimates are {np.sqrt(shift):.2g} stated standard deviations from those of {QUERY}, "
            f"its ellipses {ratio:.3g} times as large; the limits are {np.sqrt(SHIFT_LIMIT):.2g} and 1 ± "
            f"{SPREADS_APART:g}"
        )
    return shift


def add_query_few(artifact: MateformerArtifact, files: Sequence[Path]) -> list[str]:
    """Adds ``query_few`` to an artifact, or makes it anew, and describes what users of fingerprint files get from both.

    The digest of the artifact changes. Raises `NoFrames`, `BadMeasuredCell` and `ParityLost`; then the artifact stays
    as it was.
    """
    if QUERY not in artifact.graphs:
        raise NoFrames(f"{artifact.directory} has no graph {QUERY}: its users share no frames")
    content = quantise_query(artifact.graphs[QUERY])
    described = describe_query_few(artifact.manifest.graphs[QUERY], content)
    manifest = artifact.manifest.model_copy(update={"graphs": artifact.manifest.graphs | {QUERY_FEW: described}})
    locator = OnnxLocator(replace(artifact, manifest=manifest, graphs=artifact.graphs | {QUERY_FEW: content}), 1)
    lines = [_compare(locator, manifest.neighbourhood_size, cell) for cell in load_measured_cells(files)]
    (artifact.directory / described.file).write_bytes(content)
    (artifact.directory / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    return lines


def _compare(locator: OnnxLocator, neighbours: int, cell: MeasuredCell) -> str:
    """Locates some fingerprints by the others, every other one with a coarse position. Raises `ParityLost`."""
    rng = np.random.default_rng(0)
    order, held_out = rng.permutation(len(cell)), min(USERS, len(cell) // 5)
    users, known = order[:held_out], np.sort(order[held_out:])
    channel = ChannelTransform.of_cell(cell.cell, cell.csi[known[:SAMPLE]])
    features, truth = locator.describe(channel, cell.csi), cell.positions[users]
    coarse = (truth + rng.normal(0, COARSE_M, truth.shape)).astype(np.float32)
    accuracy = np.where(np.arange(held_out) % 2 == 0, COARSE_M, np.inf).astype(np.float32)
    near = known[PositionIndex(cell.positions[known]).nearest(coarse, min(neighbours, len(known)))[0]]
    few, many = list[Positions](), list[Positions]()
    for some in np.array_split(np.arange(held_out), -(-held_out // FRAMES_AT_ONCE)):
        frames = near[some]
        known_parts = features[frames], cell.positions[frames], cell.sigmas[frames]
        asked = features[users[some], None], coarse[some, None], accuracy[some, None]
        many.append(locator.locate(*known_parts, *asked))
        few.append(locator.locate(*known_parts, *asked, graph=QUERY_FEW))
    by_few, by_many = (Positions(*map(np.concatenate, zip(*one, strict=True))) for one in (few, many))
    require_few_parity(by_few, by_many)
    errors = [float(np.linalg.norm(one.positions[:, 0] - truth, axis=-1).mean()) for one in (by_many, by_few)]
    apart = float(np.linalg.norm(by_few.positions - by_many.positions, axis=-1).mean())
    return (
        f"{cell.cell.cell_id}: {held_out} users, mean error {errors[0]:.4f} m by {QUERY} and {errors[1]:.4f} m by "
        f"{QUERY_FEW}, {apart:.4f} m apart on average"
    )
