"""`fingerpost-train export`, for a trained SCADF-MoE: an artifact, its circles calibrated on points held out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

from models.artifact import (
    MANIFEST_FILE,
    RADII_CONFIDENCE,
    SCHEMA_VERSION,
    BandContract,
    CueRadii,
    Radii,
    TrajectoryManifest,
)
from models.mateformer.export import CARD_FILE, PARITY_M, RECIPE_FILE, WEIGHTS_FILE, ParityLost, rounded
from models.pipeline.learner import LOG_FILE
from models.pipeline.onnx_graph import OPSET, describe_graph, write_graph
from models.radio.path_table import PathTable
from models.radio.survey import LABEL_SIGMA_M, describe
from models.scadf_moe.card import trajectory_card
from models.scadf_moe.data import SPLIT_SEED, TrajectoryCorpus, as_seen, build_trajectories
from models.scadf_moe.learner import in_pieces, load_trajectory_model
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import Cues, TrajectoryRecipe
from models.scadf_moe.sampling import Trajectories
from reference_db import Fingerprints, write_fingerprint_file

CALIBRATED = 1000  # trajectories a band
SERVED: tuple[Cues, ...] = ("measured", "estimated")  # where a service has cues from
CUES_SUFFIX, TRAJECTORIES_SUFFIX = "-cues.npy", "-trajectories.safetensors"
_AT_ONCE = 128
_CALIBRATION, _SHOWN = 1, 2  # streams of randomness beside those of split and tests


class NotServable(ValueError):
    """A run's network is none that a service locates trajectories with."""


class _Drawn(NamedTuple):
    """Trajectories of one band with a point that training never saw; the first axis counts them."""

    csi: NDArray[np.complex64]  # [b, v, antennas, subcarriers]
    cues: NDArray[np.float32]  # [b, v, 4]
    truth: NDArray[np.float32]  # [b, v + 1, 2] metres, the centroid last
    unseen: NDArray[np.bool_]  # [b, v]


def export_trajectory_run(recipe: TrajectoryRecipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports the checkpoint of a finished run, with circles calibrated at points of its own layout held out.

    Raises `NotServable` for a rival or for pieces of trajectories, `ParityLost`, `RecipeChanged` for a run of another
    recipe, and `FileNotFoundError` where checkpoint or path tables are missing.
    """
    if recipe.fusion != "scadf-moe" or recipe.config().vertices != recipe.sampling.length:
        raise NotServable(f"{recipe.name} does not locate whole trajectories with SCADF-MoE")
    model = cast(ScadfMoE, rounded(load_trajectory_model(run, recipe)))
    drawn = {kind: list(_draws(recipe, kind, paths, CALIBRATED, _CALIBRATION)) for kind in SERVED}
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "full.onnx"
    some = drawn["measured"][0]
    csi, cues = in_pieces(torch.from_numpy(some.csi[:4]), model.config.vertices), torch.from_numpy(some.cues[:4])
    free = {"csi": {0: "batch"}, "cues": {0: "batch"}}
    write_graph(model, (csi, cues), free, ["positions"], graph)
    answers = {kind: [_located(graph, one) for one in bands] for kind, bands in drawn.items()}
    check_trajectory_parity(model, some, answers["measured"][0])
    errors = {kind: _errors(answers[kind], drawn[kind]) for kind in SERVED}
    manifest = TrajectoryManifest(
        schema_version=SCHEMA_VERSION,
        family="scadf-moe",
        name=recipe.name,
        version=recipe.version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        graphs={"full": describe_graph(graph)},
        csi=BandContract(
            antennas=recipe.radio.array.antennas,
            subcarriers=recipe.radio.subcarriers,
            bandwidth=recipe.radio.bandwidth,
        ),
        carrier_frequencies=recipe.train_bands,
        cells=(_table(recipe, paths).site.name,),
        vertices=model.config.vertices,
        radius=recipe.sampling.radius,
        radii=CueRadii(**{kind: _radii(errors[kind]) for kind in SERVED}),
        training_data_digest=_data_digest(recipe, paths),
        metrics={f"{name}, {kind} cues": value for kind in SERVED for name, value in _metrics(errors[kind]).items()},
        opset=OPSET,
        exporter=f"torch {torch.__version__}, onnx {onnx.__version__}",
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / CARD_FILE).write_text(trajectory_card(recipe, manifest, sum(p.numel() for p in model.parameters())))
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    shutil.copy(run / LOG_FILE, folder)
    save_file({name: weights.half() for name, weights in model.state_dict().items()}, folder / WEIGHTS_FILE)


def write_trajectories(
    recipe: TrajectoryRecipe, paths: Path, band: float, count: int, folder: Path
) -> tuple[Path, Path]:
    """Writes trajectories with a point held out from training for a service to locate, and the cues measured beside.

    The first file is one of fingerprints, the rows of a trajectory after each other; the second float32 `[rows, 4]` as
    `TrajectoryManifest` has them. Raises `FileNotFoundError`, and `ValueError` for a band that is none of the recipe's.
    """
    at = recipe.train_bands.index(band)
    drawn = list(_draws(recipe, "measured", paths, count, _SHOWN))[at]
    cell = describe(
        _table(recipe, paths, band).site, recipe.radio.array, recipe.radio.subcarriers, recipe.radio.bandwidth
    )
    n = drawn.csi.shape[0] * drawn.csi.shape[1]
    fingerprints = Fingerprints(
        csi=drawn.csi.reshape(n, *drawn.csi.shape[2:]),
        positions=drawn.truth[:, :-1].reshape(n, 2),
        times=np.zeros(n),
        sigmas=np.full(n, LABEL_SIGMA_M, np.float32),
    )
    folder.mkdir(parents=True, exist_ok=True)
    trajectories, cues = (folder / f"{cell.cell_id}{end}" for end in (TRAJECTORIES_SUFFIX, CUES_SUFFIX))
    write_fingerprint_file(trajectories, cell, fingerprints)
    np.save(cues, drawn.cues.reshape(n, 4))
    return trajectories, cues


def check_trajectory_parity(model: ScadfMoE, drawn: _Drawn, answers: NDArray[np.float32]) -> float:
    """Largest distance (metres) between torch's answers and ONNX Runtime's. Raises `ParityLost`."""
    some = slice(0, 64)
    with torch.inference_mode():
        csi = in_pieces(torch.from_numpy(drawn.csi[some]), model.config.vertices)
        expected = model(csi, torch.from_numpy(drawn.cues[some])).numpy()
    worst = float(np.linalg.norm(answers[some] - expected, axis=-1).max())
    if not worst <= PARITY_M:
        raise ParityLost(f"ONNX Runtime and torch differ by {1000 * worst:.3f} mm")
    return worst


def _draws(recipe: TrajectoryRecipe, kind: Cues, paths: Path, count: int, stream: int) -> Iterator[_Drawn]:
    """The same trajectories in each of the bands that the recipe trains on, oscillators locked to nothing."""
    corpus = build_trajectories(recipe.model_copy(update={"cues": kind, "test_bands": recipe.train_bands}), paths)
    rng = np.random.default_rng([SPLIT_SEED, stream, *recipe.layout.encode()])
    users = _unseen(recipe, corpus).draw(count, rng)
    layout, places = corpus.layout, corpus.layout.positions[users]
    for band in range(len(recipe.train_bands)):
        phase = np.exp(2j * np.pi * rng.random(users.shape)).astype(np.complex64)
        yield _Drawn(
            csi=layout.csi[band, users] * phase[..., None, None],
            cues=as_seen(layout.cues[band, users], kind, rng).astype(np.float32),
            truth=np.concatenate([places, places.mean(axis=1, keepdims=True)], axis=1),
            unseen=corpus.held_out[users],
        )


def _unseen(recipe: TrajectoryRecipe, corpus: TrajectoryCorpus) -> Trajectories:
    sampling, everybody = recipe.sampling, np.ones_like(corpus.held_out)
    return Trajectories(
        corpus.layout.positions,
        np.zeros(len(everybody), np.int64),
        everybody,
        sampling.length,
        sampling.radius,
        must=corpus.held_out,
    )


def _located(graph: Path, drawn: _Drawn) -> NDArray[np.float32]:
    """By ONNX Runtime: [b, v + 1, 2]."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    csi = np.ascontiguousarray(drawn.csi).view(np.float32).reshape(*drawn.csi.shape, 2)
    batches = (slice(first, first + _AT_ONCE) for first in range(0, len(csi), _AT_ONCE))
    return np.concatenate([session.run(None, {"csi": csi[rows], "cues": drawn.cues[rows]})[0] for rows in batches])


def _errors(answers: list[NDArray[np.float32]], bands: list[_Drawn]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres of all bands: of the vertices that training never saw, and of the centroids."""
    off = [np.linalg.norm(answer - one.truth, axis=-1) for answer, one in zip(answers, bands, strict=True)]
    vertices = np.concatenate([metres[:, :-1][one.unseen] for metres, one in zip(off, bands, strict=True)])
    return vertices, np.concatenate([metres[:, -1] for metres in off])


def _radii(errors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Radii:
    vertex, centroid = (float(np.quantile(metres, RADII_CONFIDENCE, method="higher")) for metres in errors)
    return Radii(vertex=vertex, centroid=centroid)


def _metrics(errors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> dict[str, float]:
    vertex, centroid = errors
    figures = {
        "mean error of unseen points": vertex.mean(),
        "median error of unseen points": np.median(vertex),
        "mean error of centroids": centroid.mean(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _table(recipe: TrajectoryRecipe, paths: Path, band: float | None = None) -> PathTable:
    return PathTable.load(recipe.table(paths, recipe.train_bands[0] if band is None else band))


def _data_digest(recipe: TrajectoryRecipe, paths: Path) -> str:
    digest = hashlib.sha256()
    for band in recipe.train_bands:
        digest.update(hashlib.sha256(recipe.table(paths, band).read_bytes()).digest())
    return digest.hexdigest()
