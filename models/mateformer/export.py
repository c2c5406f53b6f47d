"""`fingerpost-train export` for Mateformer: writes an artifact and compares it with PyTorch on real CSI."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifact import SCHEMA_VERSION, CsiContract, MateformerArtifact, MateformerManifest, written
from models.mateformer.card import mateformer_card
from models.mateformer.learner import load_model
from models.mateformer.network import Coarse, Frame, KeysValues, Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE
from models.mateformer.summary import flatten_metrics
from models.pipeline.export import (
    PARITY_M,
    current_time,
    exporter_versions,
    require_parity,
    round_weights,
    write_description,
    write_training_record,
)
from models.pipeline.onnx_graph import OPSET, describe_graph, write_graph
from models.radio.cells import digest_tables, load_cells, table_paths
from reference_db import PositionIndex

HALF_FRAMES_M = 5e-3  # parity limit of frames, whose keys and values are in half precision

# The inputs of the graphs with their free dimensions. The service knows these names, "clock" in `_pools` included.
KNOWN = {"csi_known": {0: "batch", 1: "neighbours"}, "positions_known": {0: "batch", 1: "neighbours"}}
USERS = {name: {0: "batch", 1: "queries"} for name in ("csi", "coarse", "accuracy")}
SLOTS = {"slots": {0: "batch"}}


class _FrameGraph(nn.Module):
    """Encodes frames and writes each into its slot of the pools, on the device where they will be read."""

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi_known: Tensor, positions_known: Tensor, slots: Tensor, *pools: Tensor) -> tuple[Tensor, ...]:
        parts = _parts(self.model.frame(csi_known, positions_known))
        return tuple(pool.index_put((slots,), part) for pool, part in zip(pools, parts, strict=True))


class _QueryGraph(nn.Module):
    """Reads frames from their slots of the pools and locates users in them.

    Keys and values are stored in half precision, which halves a frame's memory, and computed with in single precision.
    """

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi: Tensor, coarse: Tensor, accuracy: Tensor, slots: Tensor, *pools: Tensor) -> Tensor:
        positions, centre, scale, delay, *keys_values = (pool.index_select(0, slots).float() for pool in pools)
        layers = [KeysValues(K, V) for K, V in zip(keys_values[::2], keys_values[1::2], strict=True)]
        return self.model.query(csi, Coarse(coarse, accuracy), Frame(layers, positions, centre, scale, delay))


def _pools(depth: int) -> dict[str, dict[int, str]]:
    """The pools with their free dimensions, in the order of `_parts`. "clock" holds the frames' mean delay."""
    shapes = {"places": {0: "pool", 1: "neighbours"}} | {name: {0: "pool"} for name in ("centre", "scale", "clock")}
    for layer in range(depth):
        shapes |= {f"K_{layer}": {0: "pool", 2: "neighbours"}, f"V_{layer}": {0: "pool", 2: "neighbours"}}
    return shapes


def _parts(frame: Frame) -> tuple[Tensor, ...]:
    keys_values = (part.half() for layer in frame.keys_values for part in layer)
    return (frame.positions, frame.centre, frame.scale, frame.mean_delay, *keys_values)


def export_run(recipe: MateformerRecipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports the checkpoint of a finished run, with recipe, training log and weights.

    Parity is checked on CSI of the recipe's first validation cell. `record_evaluation` adds the results later.

    Raises `ParityLost`, `RecipeChanged` for a run of another recipe, and `FileNotFoundError` for a missing checkpoint
    or path table.
    """
    model = load_model(run, recipe)
    cell = load_cells(recipe.cells.validation[:1], paths, recipe.radio)[0]
    size = recipe.retrieval.neighbourhood_size
    near, _ = PositionIndex(cell.positions).nearest(cell.positions[:8], size + 4)
    known, users = near[:, 4:], near[:, :4]
    export(
        model,
        recipe,
        folder,
        known=cell.csi[known],
        positions=cell.positions[known],
        users=cell.csi[users],
        truth=cell.positions[users],
        training_data_digest=digest_tables(table_paths(recipe.cells.train, paths)),
        created_at=current_time(),
    )
    write_training_record(folder, recipe, model, run)


def export(
    model: Mateformer,
    recipe: MateformerRecipe,
    folder: Path,
    known: NDArray[np.complex64],  # [b, n, a, s] real CSI for the parity check
    positions: NDArray[np.float32],  # [b, n, 2]
    users: NDArray[np.complex64],  # [b, q, a, s]
    truth: NDArray[np.float32],  # [b, q, 2] positions of the users, which their coarse positions are made from
    training_data_digest: str,
    created_at: str,
) -> None:
    """Writes the graphs ``full``, ``frame`` and ``query``, ``artifact.json`` and the model card into ``folder``.

    The weights are rounded with `round_weights`. Raises `ParityLost` if ONNX Runtime and PyTorch differ by more than
    the limits on the given CSI.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = round_weights(model.cpu()).eval()
    csi_known, csi = (torch.view_as_real(torch.from_numpy(array)) for array in (known, users))
    positions_known, coarse = torch.from_numpy(positions), torch.from_numpy(truth) + 1.0
    # Every other user has no coarse position.
    accuracy = torch.where(torch.arange(csi.shape[1]) % 2 == 0, 1.0, math.inf).repeat(len(csi), 1)
    with torch.inference_mode():
        # New tensors: the exporter merges two inputs that are the same tensor.
        parts = tuple(torch.zeros_like(part) for part in _parts(model.frame(csi_known, positions_known)))
    neighbourhood, asked, slots = (csi_known, positions_known), (csi, coarse, accuracy), torch.arange(len(csi))
    pools = _pools(model.config.depth)
    outputs = [written(name) for name in pools]
    graphs = {
        "full": (model, (*neighbourhood, *asked), KNOWN | USERS, ["positions"]),
        "frame": (_FrameGraph(model), (*neighbourhood, slots, *parts), KNOWN | SLOTS | pools, outputs),
        "query": (_QueryGraph(model), (*asked, slots, *parts), USERS | SLOTS | pools, ["positions"]),
    }
    described = {}
    for name, (module, inputs, free, names) in graphs.items():
        path = folder / f"{name}.onnx"
        write_graph(module, inputs, free, names, path)
        described[name] = describe_graph(path)
    check_parity(model, folder, neighbourhood, asked)

    manifest = MateformerManifest(
        schema_version=SCHEMA_VERSION,
        family=recipe.family,
        name=recipe.name,
        version=recipe.version,
        created_at=created_at,
        graphs=described,
        csi=CsiContract(
            antennas=recipe.radio.array.antennas,
            subcarriers=recipe.radio.subcarriers,
            carrier_frequency=recipe.radio.carrier_frequency,
            bandwidth=recipe.radio.bandwidth,
        ),
        **recipe.retrieval.model_dump(),
        training_data_digest=training_data_digest,
        metrics={},
        opset=OPSET,
        exporter=exporter_versions(),
    )
    write_description(folder, manifest, mateformer_card(recipe, manifest, table=None))


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
    model: Mateformer, folder: Path, known: tuple[Tensor, Tensor], users: tuple[Tensor, Tensor, Tensor]
) -> float:
    """The largest distance in metres between PyTorch's answers and those of ``full``.

    ``known`` and ``users`` are the first two and the last three arguments of `Mateformer.forward`. Raises `ParityLost`
    above `PARITY_M`, and if ``frame`` + ``query`` are off by more than `HALF_FRAMES_M`.
    """
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("full", "frame", "query")
    }
    with torch.inference_mode():
        expected, parts = model(*known, *users).numpy(), _parts(model.frame(*known))
    neighbourhood = {name: tensor.numpy() for name, tensor in zip(KNOWN, known, strict=True)}
    asked = {name: tensor.numpy() for name, tensor in zip(USERS, users, strict=True)}
    single_pass = sessions["full"].run(None, neighbourhood | asked)[0]
    # The slots are in reverse order, so that a wrong slot changes the answer.
    slots = {"slots": np.arange(len(known[0]))[::-1].copy()}
    pools = {name: torch.zeros_like(part).numpy() for name, part in zip(_pools(len(model.layers)), parts, strict=True)}
    frames = sessions["frame"].run(None, neighbourhood | slots | pools)
    two_halves = sessions["query"].run(None, dict(zip(pools, frames, strict=True)) | asked | slots)[0]
    require_parity("frame and query", two_halves, expected, HALF_FRAMES_M)
    return require_parity("full", single_pass, expected, PARITY_M)
