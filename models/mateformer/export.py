"""`fingerpost-train export`: a trained Mateformer becomes an artifact, checked against itself on real CSI."""

from __future__ import annotations

import json
import math
import shutil
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from models.artifact import MANIFEST_FILE, SCHEMA_VERSION, Artifact, ArtifactManifest, CsiContract, written
from models.mateformer.card import model_card
from models.mateformer.data import data_digest, load_cells
from models.mateformer.learner import load_model
from models.mateformer.network import Coarse, Frame, KeysValues, Mateformer
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE
from models.mateformer.summary import metrics
from models.pipeline.learner import LOG_FILE
from models.pipeline.onnx_graph import OPSET, describe_graph, write_graph
from models.pipeline.recipe import Recipe
from reference_db import PositionIndex

PARITY_M = 1e-3
HALF_FRAMES_M = 5e-3  # of frames whose keys and values are kept in half precision
CARD_FILE, RECIPE_FILE, WEIGHTS_FILE = "README.md", "recipe.yaml", "weights.safetensors"

# Names of the free dimensions, an input each.
KNOWN = {"csi_known": {0: "batch", 1: "neighbours"}, "positions_known": {0: "batch", 1: "neighbours"}}
USERS = {name: {0: "batch", 1: "queries"} for name in ("csi", "coarse", "accuracy")}
SLOTS = {"slots": {0: "batch"}}


class ParityLost(RuntimeError):
    """ONNX Runtime and torch disagree by more than they may."""


class _Frame(nn.Module):
    """Frames are written into pools, each into its slot: on the device where they will be read."""

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi_known: Tensor, positions_known: Tensor, slots: Tensor, *pools: Tensor) -> tuple[Tensor, ...]:
        parts = _parts(self.model.frame(csi_known, positions_known))
        return tuple(pool.index_put((slots,), part) for pool, part in zip(pools, parts, strict=True))


class _Query(nn.Module):
    """Frames are read out of pools, each from its slot.

    Keys and values lie there in half precision, which is half the memory a frame, and are counted with in full.
    """

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi: Tensor, coarse: Tensor, accuracy: Tensor, slots: Tensor, *pools: Tensor) -> Tensor:
        places, centre, scale, clock, *offered = (pool.index_select(0, slots).float() for pool in pools)
        layers = [KeysValues(K, V) for K, V in zip(offered[::2], offered[1::2], strict=True)]
        return self.model.query(csi, Coarse(coarse, accuracy), Frame(layers, places, centre, scale, clock))


def _pools(depth: int) -> dict[str, dict[int, str]]:
    """The parts of frames, in the order of `_parts`, with their free dimensions."""
    shapes = {"places": {0: "pool", 1: "neighbours"}} | {name: {0: "pool"} for name in ("centre", "scale", "clock")}
    for layer in range(depth):
        shapes |= {f"K_{layer}": {0: "pool", 2: "neighbours"}, f"V_{layer}": {0: "pool", 2: "neighbours"}}
    return shapes


def _parts(frame: Frame) -> tuple[Tensor, ...]:
    offered = (part.half() for layer in frame.keys_values for part in layer)
    return (frame.positions, frame.centre, frame.scale, frame.clock, *offered)


def export_run(recipe: Recipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports the checkpoint of a finished run, checked on CSI of the recipe's first validation cell.

    The recipe, the training log and the weights, for training to go on from, go with it. What it reaches,
    `record_evaluation` adds.

    Raises `ParityLost`, `RecipeChanged` for a run of another recipe, and `FileNotFoundError` where checkpoint or path
    tables are missing.
    """
    model = load_model(run, recipe)
    cell = load_cells(recipe.cells.validation[:1], paths, recipe.radio)[0]
    size = recipe.retrieval.neighbourhood_size
    index = PositionIndex(cell.positions)
    near, _ = index.nearest(cell.positions[:8], size + 4)
    known, users = near[:, 4:], near[:, :4]
    export(
        model,
        recipe,
        folder,
        known=cell.csi[known],
        positions=cell.positions[known],
        users=cell.csi[users],
        truth=cell.positions[users],
        training_data_digest=data_digest(recipe.cells.train, paths),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    shutil.copy(run / LOG_FILE, folder)
    # Half precision: it is for training to go on from, not to answer with.
    save_file({name: weights.half() for name, weights in model.state_dict().items()}, folder / WEIGHTS_FILE)
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def export(
    model: Mateformer,
    recipe: Recipe,
    folder: Path,
    known: NDArray[np.complex64],  # [b, n, a, s] real CSI to check with
    positions: NDArray[np.float32],  # [b, n, 2]
    users: NDArray[np.complex64],  # [b, q, a, s]
    truth: NDArray[np.float32],  # [b, q, 2] where they are: what their coarse positions are made of
    training_data_digest: str,
    created_at: str,
) -> None:
    """Writes ``full``, ``frame`` and ``query`` graphs, ``artifact.json`` and the model card into ``folder``.

    What is written is the `rounded` model. Raises `ParityLost` when ONNX Runtime's answers differ from torch's by more
    than they may on the CSI given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = rounded(model.cpu()).eval()
    csi_known, csi = (torch.view_as_real(torch.from_numpy(array)) for array in (known, users))
    positions_known, coarse = torch.from_numpy(positions), torch.from_numpy(truth) + 1.0
    # Every other user has no coarse position.
    accuracy = torch.where(torch.arange(csi.shape[1]) % 2 == 0, 1.0, math.inf).repeat(len(csi), 1)
    with torch.inference_mode():
        # New tensors: one and the same for two inputs the exporter would take for one input.
        parts = tuple(torch.zeros_like(part) for part in _parts(model.frame(csi_known, positions_known)))
    knowns, asked, slots = (csi_known, positions_known), (csi, coarse, accuracy), torch.arange(len(csi))
    pools = _pools(model.config.depth)
    graphs = {
        "full": (model, (*knowns, *asked), KNOWN | USERS, ["positions"]),
        "frame": (_Frame(model), (*knowns, slots, *parts), KNOWN | SLOTS | pools, [written(name) for name in pools]),
        "query": (_Query(model), (*asked, slots, *parts), USERS | SLOTS | pools, ["positions"]),
    }
    described = {}
    for name, (module, inputs, free, outputs) in graphs.items():
        path = folder / f"{name}.onnx"
        write_graph(module, inputs, free, outputs, path)
        described[name] = describe_graph(path)
    check_parity(model, folder, knowns, asked)

    manifest = ArtifactManifest(
        schema_version=SCHEMA_VERSION,
        family="mateformer",
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
        exporter=f"torch {torch.__version__}, onnx {onnx.__version__}",
    )
    _describe_artifact(folder, recipe, manifest, table=None)


def rounded(model: Mateformer) -> Mateformer:
    """A copy whose weights are numbers of half precision: they take half the room, and the service counts in full."""
    copy = deepcopy(model)
    with torch.no_grad():
        for weights in copy.parameters():
            weights.copy_(weights.half())
    return copy


def record_evaluation(artifact: Artifact, recipe: Recipe, report: Path) -> None:
    """Puts the figures that `models.evaluation` wrote into the folder ``report`` into manifest and model card.

    The graphs stay as they are. The artifact's digest changes with its manifest, so do this before it is served.
    """
    summary = json.loads((report / JSON_FILE).read_text())
    manifest = artifact.manifest.model_copy(update={"metrics": metrics(summary)})
    shutil.copy(report / PLOT_FILE, artifact.directory)
    _describe_artifact(artifact.directory, recipe, manifest, (report / TABLE_FILE).read_text())


def _describe_artifact(folder: Path, recipe: Recipe, manifest: ArtifactManifest, table: str | None) -> None:
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / CARD_FILE).write_text(model_card(recipe, manifest, table))


def check_parity(
    model: Mateformer, folder: Path, known: tuple[Tensor, Tensor], users: tuple[Tensor, Tensor, Tensor]
) -> float:
    """Largest distance (metres) between torch's answers and those of ``full``.

    ``known`` and ``users`` are what `Mateformer.forward` takes, its first two arguments and its last three. Raises
    `ParityLost` beyond `PARITY_M`, and where ``frame`` + ``query`` are off by more than `HALF_FRAMES_M`.
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
    # Slots in another order than the users', so that a mistaken one shows.
    slots = {"slots": np.arange(len(known[0]))[::-1].copy()}
    pools = {name: torch.zeros_like(part).numpy() for name, part in zip(_pools(len(model.layers)), parts, strict=True)}
    frames = sessions["frame"].run(None, neighbourhood | slots | pools)
    two_halves = sessions["query"].run(None, dict(zip(pools, frames, strict=True)) | asked | slots)[0]
    worst, halves = (float(np.linalg.norm(answer - expected, axis=-1).max()) for answer in (single_pass, two_halves))
    if not (worst <= PARITY_M and halves <= HALF_FRAMES_M):
        raise ParityLost(f"ONNX Runtime and torch differ by {1000 * worst:.3f} mm, {1000 * halves:.3f} mm with frames")
    return worst
