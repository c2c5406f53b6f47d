"""`fingerpost-train export` for SCADF-MoE: writes an artifact and calibrates its error radii on held-out points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.artifact import (
    RADII_CONFIDENCE,
    SCHEMA_VERSION,
    BandContract,
    PathFeatureRadii,
    Radii,
    TrajectoryManifest,
)
from models.errors import TrainerError
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
from models.radio.cells import digest_tables
from models.radio.path_table import PathTable
from models.radio.survey import LABEL_SIGMA_M, describe_cell
from models.scadf_moe.card import scadf_moe_card
from models.scadf_moe.data import SPLIT_SEED, Corpus, build_corpus, observe_path_features
from models.scadf_moe.learner import load_model, split_trajectories
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe
from models.scadf_moe.sampling import Trajectories
from reference_db import Fingerprints, write_fingerprint_file

CALIBRATED = 1000  # trajectories per band
SERVED: tuple[PathFeatureKind, ...] = ("measured", "estimated")  # the sources that a service has path features from
# The file names and the graph's tensor name "cues" predate the term path features and stay for compatibility.
PATH_FEATURES_SUFFIX, TRAJECTORIES_SUFFIX = "-cues.npy", "-trajectories.safetensors"
INPUTS = {"csi": {0: "batch"}, "cues": {0: "batch"}}
_AT_ONCE = 128
_CALIBRATION, _SHOWN = 1, 2  # random streams, apart from those of the split and the tests


class NotServable(TrainerError):
    """The service cannot locate trajectories with the model of this run."""


class _Drawn(NamedTuple):
    """Trajectories of one band, each with a point that training never saw. The first axis is the trajectory."""

    csi: NDArray[np.complex64]  # [b, v, antennas, subcarriers]
    path_features: NDArray[np.float32]  # [b, v, 4]
    truth: NDArray[np.float32]  # [b, v + 1, 2] metres, the centroid last
    unseen: NDArray[np.bool_]  # [b, v]


def export_run(recipe: ScadfMoERecipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports the checkpoint of a finished run, with error radii calibrated on held-out points of its own layout.

    Raises `NotServable` for a rival or for pieces of trajectories, `ParityLost`, `RecipeChanged` for a run of another
    recipe, and `FileNotFoundError` for a missing checkpoint or path table.
    """
    if recipe.fusion != "scadf-moe" or recipe.config().vertices != recipe.sampling.length:
        raise NotServable(f"{recipe.name} does not locate whole trajectories with SCADF-MoE")
    model = cast(ScadfMoE, load_model(run, recipe))
    rounded = round_weights(model)
    drawn = {kind: list(_draw_trajectories(recipe, kind, paths, CALIBRATED, _CALIBRATION)) for kind in SERVED}
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "full.onnx"
    example = drawn["measured"][0]
    csi = split_trajectories(torch.from_numpy(example.csi[:4]), model.config.vertices)
    write_graph(rounded, (csi, torch.from_numpy(example.path_features[:4])), INPUTS, ["positions"], graph)
    answers = {kind: [_locate(graph, one) for one in bands] for kind, bands in drawn.items()}
    check_parity(rounded, example, answers["measured"][0])
    errors = {kind: _measure_errors(answers[kind], drawn[kind]) for kind in SERVED}
    manifest = TrajectoryManifest(
        schema_version=SCHEMA_VERSION,
        family=recipe.family,
        name=recipe.name,
        version=recipe.version,
        created_at=current_time(),
        graphs={"full": describe_graph(graph)},
        csi=BandContract(
            antennas=recipe.radio.array.antennas,
            subcarriers=recipe.radio.subcarriers,
            bandwidth=recipe.radio.bandwidth,
        ),
        carrier_frequencies=recipe.train_bands,
        cells=(_load_table(recipe, paths, recipe.train_bands[0]).site.name,),
        vertices=model.config.vertices,
        radius=recipe.sampling.radius,
        radii=PathFeatureRadii(**{kind: _calibrate_radii(errors[kind]) for kind in SERVED}),
        training_data_digest=digest_tables(recipe.table_path(paths, band) for band in recipe.train_bands),
        metrics={
            f"{name}, {kind} path features": value
            for kind in SERVED
            for name, value in _summarise_errors(errors[kind]).items()
        },
        opset=OPSET,
        exporter=exporter_versions(),
    )
    write_description(folder, manifest, scadf_moe_card(recipe, manifest, sum(p.numel() for p in model.parameters())))
    write_training_record(folder, recipe, model, run)


def write_trajectories(recipe: ScadfMoERecipe, paths: Path, band: float, count: int, folder: Path) -> tuple[Path, Path]:
    """Writes trajectories with a held-out point, which a service can locate, and their measured path features.

    The first file is a fingerprint file whose rows are the points, trajectory after trajectory. The second is float32
    `[rows, 4]` as in `TrajectoryManifest`. Raises `FileNotFoundError`, and `ValueError` for a band that the recipe does
    not train on.
    """
    at = recipe.train_bands.index(band)
    drawn = list(_draw_trajectories(recipe, "measured", paths, count, _SHOWN))[at]
    radio = recipe.radio
    cell = describe_cell(_load_table(recipe, paths, band).site, radio.array, radio.subcarriers, radio.bandwidth)
    n = drawn.csi.shape[0] * drawn.csi.shape[1]
    fingerprints = Fingerprints(
        csi=drawn.csi.reshape(n, *drawn.csi.shape[2:]),
        positions=drawn.truth[:, :-1].reshape(n, 2),
        times=np.zeros(n),
        sigmas=np.full(n, LABEL_SIGMA_M, np.float32),
    )
    folder.mkdir(parents=True, exist_ok=True)
    trajectories, features = (folder / f"{cell.cell_id}{end}" for end in (TRAJECTORIES_SUFFIX, PATH_FEATURES_SUFFIX))
    write_fingerprint_file(trajectories, cell, fingerprints)
    np.save(features, drawn.path_features.reshape(n, 4))
    return trajectories, features


def check_parity(model: ScadfMoE, drawn: _Drawn, answers: NDArray[np.float32]) -> float:
    """The largest distance in metres between the answers of PyTorch and of ONNX Runtime. Raises `ParityLost`."""
    some = slice(0, 64)
    with torch.inference_mode():
        csi = split_trajectories(torch.from_numpy(drawn.csi[some]), model.config.vertices)
        expected = model(csi, torch.from_numpy(drawn.path_features[some])).numpy()
    return require_parity("full", answers[some], expected, PARITY_M)


def _draw_trajectories(
    recipe: ScadfMoERecipe, kind: PathFeatureKind, paths: Path, count: int, stream: int
) -> Iterator[_Drawn]:
    """The same trajectories in each training band, with a random phase per snapshot."""
    corpus = build_corpus(recipe.model_copy(update={"path_features": kind, "test_bands": recipe.train_bands}), paths)
    rng = np.random.default_rng([SPLIT_SEED, stream, *recipe.layout.encode()])
    users = _unseen_trajectories(recipe, corpus).draw(count, rng)
    layout, places = corpus.layout, corpus.layout.positions[users]
    for band in range(len(recipe.train_bands)):
        phase = np.exp(2j * np.pi * rng.random(users.shape)).astype(np.complex64)
        yield _Drawn(
            csi=layout.csi[band, users] * phase[..., None, None],
            path_features=observe_path_features(layout.path_features[band, users], kind, rng).astype(np.float32),
            truth=np.concatenate([places, places.mean(axis=1, keepdims=True)], axis=1),
            unseen=corpus.held_out[users],
        )


def _unseen_trajectories(recipe: ScadfMoERecipe, corpus: Corpus) -> Trajectories:
    sampling, everybody = recipe.sampling, np.ones_like(corpus.held_out)
    return Trajectories(
        corpus.layout.positions,
        np.zeros(len(everybody), np.int64),
        everybody,
        sampling.length,
        sampling.radius,
        must=corpus.held_out,
    )


def _locate(graph: Path, drawn: _Drawn) -> NDArray[np.float32]:
    """The answers of ONNX Runtime [b, v + 1, 2]."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    csi = np.ascontiguousarray(drawn.csi).view(np.float32).reshape(*drawn.csi.shape, 2)
    batches = (slice(first, first + _AT_ONCE) for first in range(0, len(csi), _AT_ONCE))
    return np.concatenate(
        [session.run(None, {"csi": csi[rows], "cues": drawn.path_features[rows]})[0] for rows in batches]
    )


def _measure_errors(
    answers: list[NDArray[np.float32]], bands: list[_Drawn]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors in metres over all bands: of the vertices that training never saw, and of the centroids."""
    off = [np.linalg.norm(answer - one.truth, axis=-1) for answer, one in zip(answers, bands, strict=True)]
    vertices = np.concatenate([metres[:, :-1][one.unseen] for metres, one in zip(off, bands, strict=True)])
    return vertices, np.concatenate([metres[:, -1] for metres in off])


def _calibrate_radii(errors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Radii:
    vertex, centroid = (float(np.quantile(metres, RADII_CONFIDENCE, method="higher")) for metres in errors)
    return Radii(vertex=vertex, centroid=centroid)


def _summarise_errors(errors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> dict[str, float]:
    vertex, centroid = errors
    figures = {
        "mean error of unseen points": vertex.mean(),
        "median error of unseen points": np.median(vertex),
        "mean error of centroids": centroid.mean(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _load_table(recipe: ScadfMoERecipe, paths: Path, band: float) -> PathTable:
    return PathTable.load(recipe.table_path(paths, band))
