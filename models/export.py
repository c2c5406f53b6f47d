"""`fingerpost-train export`: a trained Mateformer becomes an artifact, checked against itself on real CSI."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import shutil
import warnings
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

from models.artifact import MANIFEST_FILE, SCHEMA_VERSION, Artifact, ArtifactManifest, CsiContract, Graph, TensorSpec
from models.evaluation.report import JSON_FILE, PLOT_FILE, TABLE_FILE
from models.evaluation.summary import metrics
from models.mateformer import Coarse, Frame, KeysValues, Mateformer
from models.model_card import model_card
from models.training.corpus import data_digest, load_cells
from models.training.fit import LOG_FILE, load_model
from models.training.recipe import Recipe
from reference_db import PositionIndex

OPSET = 18
PARITY_M = 1e-3
CARD_FILE, RECIPE_FILE, WEIGHTS_FILE = "README.md", "recipe.yaml", "weights.safetensors"
DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}

# Names of the free dimensions, an input each.
KNOWN = {"csi_known": {0: "batch", 1: "neighbours"}, "positions_known": {0: "batch", 1: "neighbours"}}
USERS = {name: {0: "batch", 1: "queries"} for name in ("csi", "coarse", "accuracy")}
SLOTS = {"slots": {0: "batch"}}
PLACES = {"positions_known": {0: "pool", 1: "neighbours"}}
REFERENCE = ("centre", "scale", "clock")


class ParityLost(RuntimeError):
    """ONNX Runtime and torch disagree by more than a millimetre."""


class _Frame(nn.Module):
    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi_known: Tensor, positions_known: Tensor) -> tuple[Tensor, ...]:
        return _parts(self.model.frame(csi_known, positions_known))


class _Query(nn.Module):
    """Frames lie in pools, as they come; each batch says in which slots its own are."""

    def __init__(self, model: Mateformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        csi: Tensor,
        coarse: Tensor,
        accuracy: Tensor,
        slots: Tensor,
        positions_known: Tensor,
        *parts: Tensor,
    ) -> Tensor:
        positions_known, *parts = (pool.index_select(0, slots) for pool in (positions_known, *parts))
        reference, offered = parts[: len(REFERENCE)], parts[len(REFERENCE) :]
        layers = [KeysValues(*offered[i : i + 4]) for i in range(0, len(offered), 4)]
        return self.model.query(csi, Coarse(coarse, accuracy), Frame(layers, positions_known, *reference))


def frame_parts(depth: int) -> dict[str, dict[int, str]]:
    """What the ``frame`` graph gives and the ``query`` graph takes, beside positions, with the free dimensions."""
    offered = {f"{part}_{layer}": part for layer in range(depth) for part in KeysValues._fields}
    shapes = {name: {0: "batch", 3 if part.startswith("K") else 2: "neighbours"} for name, part in offered.items()}
    return {name: {0: "batch"} for name in REFERENCE} | shapes


def _parts(frame: Frame) -> tuple[Tensor, ...]:
    """In the order of `frame_parts`."""
    return (frame.centre, frame.scale, frame.clock, *(part for layer in frame.keys_values for part in layer))


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

    Raises `ParityLost` when ONNX Runtime's answers differ from torch's by more than a millimetre on the CSI given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model.cpu().eval()
    csi_known, csi = (torch.view_as_real(torch.from_numpy(array)) for array in (known, users))
    positions_known, coarse = torch.from_numpy(positions), torch.from_numpy(truth) + 1.0
    # Every other user has no coarse position.
    accuracy = torch.where(torch.arange(csi.shape[1]) % 2 == 0, 1.0, math.inf).repeat(len(csi), 1)
    with torch.inference_mode():
        frame = model.frame(csi_known, positions_known)
    knowns, asked = (csi_known, positions_known), (csi, coarse, accuracy)
    parts = frame_parts(model.config.depth)
    pools = {name: axes | {0: "pool"} for name, axes in parts.items()}
    slots = torch.arange(len(csi))
    graphs = {
        "full": (model, (*knowns, *asked), {**KNOWN, **USERS}, ["positions"]),
        "frame": (_Frame(model), knowns, KNOWN, list(parts)),
        "query": (
            _Query(model),
            (*asked, slots, positions_known, *_parts(frame)),
            {**USERS, **SLOTS, **PLACES, **pools},
            ["positions"],
        ),
    }
    described = {}
    for name, (module, inputs, free, outputs) in graphs.items():
        path = folder / f"{name}.onnx"
        _write_graph(module, inputs, free, outputs, path)
        described[name] = _describe(path)
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
    """Largest distance (metres) between torch's answers and the graphs', ``full`` and ``frame`` + ``query``.

    ``known`` and ``users`` are what `Mateformer.forward` takes, its first two arguments and its last three.
    """
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("full", "frame", "query")
    }
    with torch.inference_mode():
        expected = model(*known, *users).numpy()
    neighbourhood = {name: tensor.numpy() for name, tensor in zip(KNOWN, known, strict=True)}
    asked = {name: tensor.numpy() for name, tensor in zip(USERS, users, strict=True)}
    single_pass = sessions["full"].run(None, neighbourhood | asked)[0]
    parts = frame_parts(model.config.depth)
    frames = dict(zip(parts, sessions["frame"].run(None, neighbourhood), strict=True))
    # Slots in another order than the users', so that a mistaken one shows.
    backwards = {name: np.ascontiguousarray(part[::-1]) for name, part in frames.items()}
    backwards["positions_known"] = np.ascontiguousarray(neighbourhood["positions_known"][::-1])
    slots = np.arange(len(known[0]), dtype=np.int64)[::-1].copy()
    two_halves = sessions["query"].run(None, backwards | asked | {"slots": slots})[0]
    worst = max(float(np.linalg.norm(answer - expected, axis=-1).max()) for answer in (single_pass, two_halves))
    if not worst <= PARITY_M:
        raise ParityLost(f"ONNX Runtime and torch differ by {1000 * worst:.3f} mm")
    return worst


def _write_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    free: dict[str, dict[int, str]],
    outputs: list[str],
    path: Path,
) -> None:
    sizes: dict[str, torch.export.Dim] = {}
    shapes = [
        {axis: sizes.setdefault(size, torch.export.Dim(size, min=1, max=1 << 20)) for axis, size in axes.items()}
        for axes in free.values()
    ]
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    variadic = [tuple(shapes[named:])] if named < len(shapes) else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(free),
            output_names=outputs,
            dynamic_shapes=(*shapes[:named], *variadic),
            external_data=False,
            verbose=False,
        )
    program.optimize()
    program.save(path, external_data=False)


def _describe(path: Path) -> Graph:
    graph = onnx.load(path).graph

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        shape: list[int | str] = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        return TensorSpec(name=value.name, dtype=DTYPES[tensor.elem_type], shape=shape)

    return Graph(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=[spec(value) for value in graph.input],
        outputs=[spec(value) for value in graph.output],
    )
