"""`fingerpost-train export` for SCADF-MoE: writes an artifact, with covariances calibrated on held-out points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from models.artifact import TRAJECTORY_SCHEMA_VERSION, BandContract, TrajectoryManifest
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
from models.scadf_moe.calibration import calibrate, locate, run_checks, summarise_checks, usual_error
from models.scadf_moe.card import scadf_moe_card
from models.scadf_moe.certainty import CertainScadfMoE
from models.scadf_moe.certainty_training import load_certain
from models.scadf_moe.data import SPLIT_SEED, Corpus
from models.scadf_moe.held_out import Drawn, load_served, observe
from models.scadf_moe.learner import split_trajectories
from models.scadf_moe.recipe import ScadfMoERecipe
from models.scadf_moe.sampling import Trajectories
from reference_db import Fingerprints, write_fingerprint_file

# The file name "cues" predates the term path features and stays for compatibility.
PATH_FEATURES_SUFFIX, TRAJECTORIES_SUFFIX = "-cues.npy", "-trajectories.safetensors"
INPUTS = {"csi": {0: "batch"}, "path_features": {0: "batch"}}
OUTPUTS = ["positions", "covariances"]
_COMPARED = 64  # trajectories
_SHOWN = 2  # random stream, apart from those of the split and the held-out parts


class NotServable(TrainerError):
    """The service cannot locate trajectories with the model of this run."""


def export_run(recipe: ScadfMoERecipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports a finished run, with covariances calibrated on held-out points of its own layout.

    Raises `NotServable` for a rival, for pieces of trajectories, and for a recipe without covariances; `ParityLost`,
    `RecipeChanged` for a run of another recipe, `NoTrajectories`, and `FileNotFoundError` for a missing run or path
    table.
    """
    if recipe.fusion != "scadf-moe" or recipe.config().vertices != recipe.sampling.length:
        raise NotServable(f"{recipe.name} does not locate whole trajectories with SCADF-MoE")
    if recipe.certainty is None:
        raise NotServable(f"{recipe.name} states no covariances: its recipe has no section certainty")
    model = load_certain(run, recipe)
    rounded = round_weights(model)
    corpus = load_served(recipe, paths)
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "full.onnx"
    rng = _rng(recipe)
    example = observe(corpus, 0, _unseen_trajectories(recipe, corpus).draw(_COMPARED, rng), "measured", rng)
    csi = split_trajectories(torch.from_numpy(example.csi[:4]), recipe.sampling.length)
    write_graph(rounded, (csi, torch.from_numpy(example.path_features[:4])), INPUTS, OUTPUTS, graph)
    check_parity(rounded, example, graph)
    checks = run_checks(recipe, corpus, graph)
    scales = calibrate(checks.calibration)
    manifest = TrajectoryManifest(
        schema_version=TRAJECTORY_SCHEMA_VERSION,
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
        vertices=recipe.sampling.length,
        radius=recipe.sampling.radius,
        tolerance=usual_error(one.vertices for one in checks.calibration.values()),
        scales=scales,
        training_data_digest=digest_tables(recipe.table_path(paths, band) for band in recipe.train_bands),
        metrics=summarise_checks(checks, scales),
        opset=OPSET,
        exporter=exporter_versions(),
    )
    parameters = sum(one.numel() for one in model.parameters())
    write_description(folder, manifest, scadf_moe_card(recipe, manifest, parameters, checks))
    write_training_record(folder, recipe, model, run)


def write_trajectories(recipe: ScadfMoERecipe, paths: Path, band: float, count: int, folder: Path) -> tuple[Path, Path]:
    """Writes trajectories with a held-out point, which a service can locate, and their measured path features.

    The first file is a fingerprint file whose rows are the points, trajectory after trajectory. The second is float32
    `[rows, 4]` as in `TrajectoryManifest`. Raises `FileNotFoundError`, and `ValueError` for a band that the recipe does
    not train on.
    """
    at = recipe.train_bands.index(band)
    corpus, rng = load_served(recipe, paths), _rng(recipe)
    users = _unseen_trajectories(recipe, corpus).draw(count, rng)
    drawn = [observe(corpus, one, users, "measured", rng) for one in range(at + 1)][at]
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


def check_parity(model: CertainScadfMoE, drawn: Drawn, graph: Path) -> float:
    """The largest distance in metres between the positions of PyTorch and of ONNX Runtime, and between the axes' 1
    sigma. Raises `ParityLost`.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    positions, covariances = locate(session, drawn)
    with torch.inference_mode():
        csi = split_trajectories(torch.from_numpy(drawn.csi), drawn.users.shape[1])
        expected, spread = (part.numpy() for part in model(csi, torch.from_numpy(drawn.path_features)))
    sigmas = (np.sqrt(np.diagonal(one, axis1=-2, axis2=-1)) for one in (covariances, spread))
    return max(
        require_parity("positions", positions, expected, PARITY_M),
        require_parity("covariances", *sigmas, PARITY_M),
    )


def _rng(recipe: ScadfMoERecipe) -> np.random.Generator:
    return np.random.default_rng([SPLIT_SEED, _SHOWN, *recipe.layout.encode()])


def _unseen_trajectories(recipe: ScadfMoERecipe, corpus: Corpus) -> Trajectories:
    """Trajectories with a held-out point; the other points may have been trained on."""
    sampling, everywhere = recipe.sampling, np.zeros(len(corpus.held_out), np.int64)
    return Trajectories(
        corpus.layout.positions,
        everywhere,
        corpus.sampled,
        sampling.length,
        sampling.radius,
        must=corpus.sampled & corpus.held_out,
    )


def _load_table(recipe: ScadfMoERecipe, paths: Path, band: float) -> PathTable:
    return PathTable.load(recipe.table_path(paths, band))
