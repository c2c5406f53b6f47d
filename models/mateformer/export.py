"""`fingerpost-train export` for Mateformer: writes an artifact and compares it with PyTorch on real CSI."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifact import MateformerArtifact, MateformerManifest, written
from models.artifact.channel_transform import ChannelTransform
from models.layers.channel_features import FEATURES, describe_channel
from models.mateformer.card import mateformer_card
from models.mateformer.data import View, observe_view, view_measured
from models.mateformer.learner import load_model
from models.mateformer.locators import Positions
from models.mateformer.measured import find_fingerprint_files, split_measured_cells
from models.mateformer.network import Coarse, Frame, KeysValues, Mateformer
from models.mateformer.query_few import QUERY, QUERY_FEW, describe_query_few, quantise_query, require_few_parity
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE
from models.mateformer.summary import flatten_metrics
from models.pipeline.export import (
    PARITY_M,
    ParityLost,
    current_time,
    exporter_versions,
    require_parity,
    round_weights,
    write_description,
    write_training_record,
)
from models.pipeline.onnx_graph import OPSET, describe_graph, write_graph
from models.radio.cells import digest_tables, table_paths
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

FEATURES_APART = 1e-2  # of features with a standard deviation of about one
HALF_FRAMES_M = 1e-2  # parity limit of frames, whose keys and values are in half precision

# The inputs of the graphs with their free dimensions. The service knows these names.
CHANNEL = {
    "csi": {0: "snapshots", 1: "lines", 2: "columns", 3: "subcarriers"},
    "over_columns": {1: "column_pairs"},
    "over_lines": {1: "line_pairs"},
    "sparse_search": {0: "subcarrier_pairs", 1: "sparse_pairs"},
    "search": {0: "subcarrier_pairs"},
    "absolute": {0: "subcarrier_pairs"},
    "relative": {0: "subcarrier_pairs"},
    "scale": {},
    "delay": {},
    "description": {},
}
KNOWN = {name: {0: "batch", 1: "neighbours"} for name in ("features_known", "positions_known", "sigmas_known")}
USERS = {name: {0: "batch", 1: "queries"} for name in ("features", "coarse", "accuracy")}
SLOTS = {"slots": {0: "batch"}}
ESTIMATES = ["positions", "covariances", "streams"]


class _DescribeGraph(nn.Module):
    """Turns snapshots of one cell into features."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return describe_channel(*inputs)


class _FullGraph(nn.Module):
    """The paper's single pass."""

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        features_known: Tensor,
        positions_known: Tensor,
        sigmas_known: Tensor,
        features: Tensor,
        coarse: Tensor,
        accuracy: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        estimates = self.model(features_known, positions_known, sigmas_known, features, coarse, accuracy)
        return estimates.position, estimates.covariance, estimates.streams


class _FrameGraph(nn.Module):
    """Encodes frames and writes each into its slot of the pools, on the device where they will be read."""

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, features_known: Tensor, positions_known: Tensor, sigmas_known: Tensor, slots: Tensor, *pools: Tensor
    ) -> tuple[Tensor, ...]:
        parts = _parts(self.model.frame(features_known, positions_known, sigmas_known))
        return tuple(pool.index_put((slots,), part) for pool, part in zip(pools, parts, strict=True))


class _QueryGraph(nn.Module):
    """Reads frames from their slots of the pools and locates users in them.

    Keys and values are stored in half precision, which halves a frame's memory, and computed with in single precision.
    """

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, features: Tensor, coarse: Tensor, accuracy: Tensor, slots: Tensor, *pools: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        positions, centre, spread, reference, *keys_values = (pool.index_select(0, slots).float() for pool in pools)
        layers = [KeysValues(K, V) for K, V in zip(keys_values[::2], keys_values[1::2], strict=True)]
        frame = Frame(layers, positions, centre, spread, reference)
        estimates = self.model.query(features, Coarse(coarse, accuracy), frame)
        return estimates.position, estimates.covariance, estimates.streams


def _pools(depth: int) -> dict[str, dict[int, str]]:
    """The pools with their free dimensions, in the order of `_parts`."""
    shapes = {"places": {0: "pool", 1: "neighbours"}}
    shapes |= {name: {0: "pool"} for name in ("centre", "spread", "reference")}
    for layer in range(depth):
        shapes |= {f"K_{layer}": {0: "pool", 2: "neighbours"}, f"V_{layer}": {0: "pool", 2: "neighbours"}}
    return shapes


def _parts(frame: Frame) -> tuple[Tensor, ...]:
    keys_values = (part.half() for layer in frame.keys_values for part in layer)
    return (frame.positions, frame.centre, frame.spread, frame.reference, *keys_values)


def export_run(recipe: MateformerRecipe, run: Path, folder: Path, paths: Path, few: bool = False) -> None:
    """Exports the checkpoint of a finished run, with recipe, training log and weights.

    ``few`` adds the graph ``query_few``. Parity is checked on CSI of the recipe's first validation cell, or of its
    first measured cell if it has none.
    `record_evaluation` adds the results later.

    Raises `ParityLost`, `RecipeChanged` for a run of another recipe, `FileNotFoundError` for a missing checkpoint or
    path table, and `BadMeasuredCell`.
    """
    model = load_model(run, recipe)
    view = _view_held_out(recipe, paths)
    size = recipe.retrieval.neighbourhood_size
    near, _ = view.index.nearest(view.positions[:8], min(size + 4, len(view.positions)))
    files = [*table_paths(recipe.cells.train, paths), *find_fingerprint_files(recipe.cells.fingerprints)]
    export(
        model,
        recipe,
        folder,
        Sample(
            channel=view.channel,
            csi=view.csi[near].astype(np.float32).view(np.complex64)[..., 0],
            positions=view.positions[near],
            known=near.shape[1] - 4,
        ),
        training_data_digest=digest_tables(files),
        created_at=current_time(),
        few=few,
    )
    write_training_record(folder, recipe, model, run)


def _view_held_out(recipe: MateformerRecipe, paths: Path) -> View:
    if not recipe.cells.validation:
        return view_measured(split_measured_cells(recipe.cells, recipe.seed)[0])
    (path,) = table_paths(recipe.cells.validation, paths)[:1]
    table = PathTable.load(path)
    return observe_view(table, recipe.radio, table.site.yaw, None)


@dataclass(frozen=True)
class Sample:
    """Real CSI for the parity check: the first ``known`` of each neighbourhood are fingerprints, the others users."""

    channel: ChannelTransform
    csi: NDArray[np.complex64]  # [b, t, antennas, subcarriers]
    positions: NDArray[np.float32]  # [b, t, 2]
    known: int


def export(
    model: Mateformer,
    recipe: MateformerRecipe,
    folder: Path,
    sample: Sample,
    training_data_digest: str,
    created_at: str,
    few: bool = False,
) -> None:
    """Writes the graphs, ``artifact.json`` and the model card into ``folder``.

    The weights are rounded with `round_weights`, those of ``query_few``, written if ``few``, to 8 bits. Raises
    `ParityLost` if ONNX Runtime and PyTorch differ by more than the limits on the given CSI.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = round_weights(model.cpu()).eval()
    b, p = len(sample.csi), sample.known
    pairs = np.ascontiguousarray(sample.csi.reshape(-1, *sample.csi.shape[2:]))[..., None].view(np.float32)
    channel = {name: torch.from_numpy(value) for name, value in sample.channel.feeds(pairs).items()}
    positions = torch.from_numpy(sample.positions)
    with torch.inference_mode():
        features = describe_channel(*channel.values()).unflatten(0, (b, -1))
    neighbourhood = (features[:, :p].clone(), positions[:, :p].clone(), torch.full((b, p), 0.02))
    q = features.shape[1] - p
    # Every other user has no coarse position.
    accuracy = torch.where(torch.arange(q) % 2 == 0, 1.0, math.inf).repeat(b, 1)
    asked = (features[:, p:].clone(), positions[:, p:] + 1.0, accuracy)
    with torch.inference_mode():
        # New tensors: the exporter merges two inputs that are the same tensor.
        parts = tuple(torch.zeros_like(part) for part in _parts(model.frame(*neighbourhood)))
    slots, pools = torch.arange(b), _pools(model.config.depth)
    outputs = [written(name) for name in pools]
    graphs = {
        "describe": (_DescribeGraph(), _example_channel(), CHANNEL, ["features"]),
        "full": (_FullGraph(model), (*neighbourhood, *asked), KNOWN | USERS, ESTIMATES),
        "frame": (_FrameGraph(model), (*neighbourhood, slots, *parts), KNOWN | SLOTS | pools, outputs),
        "query": (_QueryGraph(model), (*asked, slots, *parts), USERS | SLOTS | pools, ESTIMATES),
    }
    described = {}
    for name, (module, inputs, free, names) in graphs.items():
        path = folder / f"{name}.onnx"
        write_graph(module, inputs, free, names, path)
        described[name] = describe_graph(path)
    if few:
        content = quantise_query((folder / described[QUERY].file).read_bytes())
        described[QUERY_FEW] = describe_query_few(described[QUERY], content)
        (folder / described[QUERY_FEW].file).write_bytes(content)
    check_parity(model, folder, channel, neighbourhood, asked)

    manifest = MateformerManifest(
        schema_version=2,
        family=recipe.family,
        name=recipe.name,
        version=recipe.version,
        created_at=created_at,
        graphs=described,
        csi=recipe.ranges,
        features=FEATURES,
        **recipe.retrieval.model_dump(),
        training_data_digest=training_data_digest,
        metrics={},
        opset=OPSET,
        exporter=exporter_versions(),
    )
    write_description(folder, manifest, mateformer_card(recipe, manifest, table=None))


def _example_channel() -> tuple[Tensor, ...]:
    """Inputs of ``describe`` for an array of several rows and columns: the exporter takes a size of one for fixed."""
    array = AntennaArray(rows=2, columns=4)
    pairs = np.random.default_rng(0).normal(size=(3, array.antennas, 12, 2)).astype(np.float32)
    channel = ChannelTransform.of(array, 12, 40e6, 3.5e9, None, None, pairs.view(np.complex64)[..., 0])
    return tuple(torch.from_numpy(value) for value in channel.feeds(pairs).values())


def record_evaluation(artifact: MateformerArtifact, recipe: MateformerRecipe, report: Path) -> None:
    """Copies the results that `models.mateformer.report` wrote into the folder ``report`` to manifest and model card.

    The graphs stay as they are. The artifact's digest changes with its manifest, so do this before it is served.
    """
    summary = json.loads((report / JSON_FILE).read_text())
    manifest = artifact.manifest.model_copy(update={"metrics": flatten_metrics(summary)})
    shutil.copy(report / PLOT_FILE, artifact.directory)
    card = mateformer_card(recipe, manifest, (report / TABLE_FILE).read_text())
    write_description(artifact.directory, manifest, card)


def check_parity(
    model: Mateformer,
    folder: Path,
    channel: dict[str, Tensor],
    known: tuple[Tensor, Tensor, Tensor],
    users: tuple[Tensor, Tensor, Tensor],
) -> float:
    """The largest distance in metres between PyTorch's answers and those of ``full``.

    ``channel`` are the inputs of ``describe``, ``known`` and ``users`` the first and the last three arguments of
    `Mateformer.forward`. Raises `ParityLost` above `PARITY_M`, if ``frame`` + ``query`` are off by more than
    `HALF_FRAMES_M`, if ``query_few`` is there and fails `require_few_parity`, and if ``describe`` gives other features.
    """
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("describe", "full", "frame", QUERY, QUERY_FEW)
        if (folder / f"{name}.onnx").exists()
    }
    with torch.inference_mode():
        features = describe_channel(*channel.values()).numpy()
        expected, parts = model(*known, *users).position.numpy(), _parts(model.frame(*known))
    answer = sessions["describe"].run(None, {name: tensor.numpy() for name, tensor in channel.items()})[0]
    if not np.abs(answer - features).max() <= FEATURES_APART:
        raise ParityLost(f"describe: features differ by {np.abs(answer - features).max():.2g}")
    neighbourhood = {name: tensor.numpy() for name, tensor in zip(KNOWN, known, strict=True)}
    asked = {name: tensor.numpy() for name, tensor in zip(USERS, users, strict=True)}
    single_pass = sessions["full"].run(None, neighbourhood | asked)[0]
    # The slots are in reverse order, so that a wrong slot changes the answer.
    slots = {"slots": np.arange(len(known[0]))[::-1].copy()}
    pools = {name: torch.zeros_like(part).numpy() for name, part in zip(_pools(len(model.layers)), parts, strict=True)}
    frames = sessions["frame"].run(None, neighbourhood | slots | pools)
    in_frames = dict(zip(pools, frames, strict=True)) | asked | slots
    answers = list(Positions._fields)
    by_query = Positions(*sessions[QUERY].run(answers, in_frames))
    require_parity("frame and query", by_query.positions, expected, HALF_FRAMES_M)
    if QUERY_FEW in sessions:
        require_few_parity(Positions(*sessions[QUERY_FEW].run(answers, in_frames)), by_query)
    return require_parity("full", single_pass, expected, PARITY_M)
