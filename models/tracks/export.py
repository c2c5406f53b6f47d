"""`fingerpost-train export` for tracks: adds the graph ``track`` to the artifact of the Mateformer below it."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from models.artifact import (
    MateformerArtifact,
    MateformerManifest,
    TracksContract,
    load_artifact,
)
from models.errors import TrainerError
from models.mateformer.card import replace_tracks
from models.pipeline.export import CARD_FILE, PARITY_M, require_parity, round_weights, write_description
from models.pipeline.learner import LOG_FILE
from models.pipeline.onnx_graph import describe_graph, write_graph
from models.radio.walks import SNAPSHOTS
from models.tracks.calibration import locate_validation, measure_levels
from models.tracks.evaluation import describe_inputs, time_tracks
from models.tracks.network import TrackFormer
from models.tracks.recipe import ARTIFACTS, TracksRecipe
from models.tracks.training import Trained, WalkLocator, check_tables, digest_located, train_network
from models.tracks.walked import Walked

TRACK = "track"
STRIDE_M = 9.0  # tracks with two snapshots left out after each: validated as all others
RECIPE_FILE, WEIGHTS_FILE, TRACKS_LOG_FILE = "tracks.yaml", "tracks.safetensors", f"tracks.{LOG_FILE}"
INPUTS = {name: {0: "batch", 1: "snapshots"} for name in ("streams", "numbers", "smoothed", "sigma")}


class NoStreams(TrainerError):
    """The graphs of the artifact do not return the streams that the track network reads."""


class _TrackGraph(nn.Module):
    def __init__(self, network: TrackFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, streams: Tensor, numbers: Tensor, smoothed: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        estimates = self.network(streams, numbers, smoothed, sigma)
        return estimates.position, estimates.covariance


def fit_run(recipe: TracksRecipe, run: Path, paths: Path, device: torch.device) -> tuple[WalkLocator, Trained]:
    """Locates the walks of the training cells and trains the network, both in the folder ``run``. Resumes after a stop.

    Raises `PathTablesMissing`, `OtherCarrier` and `RecipeChanged`.
    """
    check_tables(recipe, paths)
    locator = WalkLocator.load(recipe, paths)
    return locator, train_network(locator, recipe, run / digest_located(recipe, paths), run, device)


def export_run(recipe: TracksRecipe, run: Path, folder: Path, paths: Path) -> None:
    """Adds the network of a finished run to the Mateformer's artifact: in ``folder``, a copy unless it is that one.

    Scales are measured on the walks of the recipe's validation cells. Raises `NoStreams`, `ParityLost` and what
    `fit_run` raises.
    """
    base = load_artifact(ARTIFACTS / recipe.artifact, MateformerManifest)
    if not all(
        any(spec.name == "streams" for spec in base.manifest.graphs[name].outputs) for name in ("full", "query")
    ):
        raise NoStreams(f"{base.directory}: export it again, so that its graphs return their streams")
    locator, (network, motion) = fit_run(recipe, run, paths, torch.device("cpu"))
    network, walked = round_weights(network), locate_validation(locator)
    contract = TracksContract(
        snapshots=SNAPSHOTS, stride=STRIDE_M, motion=motion, levels=measure_levels(network, motion, walked)
    )
    if folder.resolve() != base.directory.resolve():
        shutil.copytree(base.directory, folder, dirs_exist_ok=True)
    add_track(load_artifact(folder, MateformerManifest), network, contract, walked)
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    shutil.copy(run / LOG_FILE, folder / TRACKS_LOG_FILE)
    save_file({name: weights.half() for name, weights in network.state_dict().items()}, folder / WEIGHTS_FILE)


def add_track(
    artifact: MateformerArtifact, network: TrackFormer, contract: TracksContract, sample: Walked
) -> MateformerArtifact:
    """The artifact with the graph ``track``, its manifest and its card. Raises `ParityLost` on the sample's tracks."""
    folder, manifest = artifact.directory, artifact.manifest
    tracks = sample.cut(contract.snapshots // 2)
    inputs = describe_inputs(tracks, time_tracks(tracks), contract.motion)
    path = folder / f"{TRACK}.onnx"
    write_graph(_TrackGraph(network), inputs, INPUTS, ["positions", "covariances"], path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answers,) = session.run(["positions"], {name: one.numpy() for name, one in zip(INPUTS, inputs, strict=True)})
    with torch.inference_mode():
        require_parity(TRACK, answers, network(*inputs).position.numpy(), PARITY_M)
    graphs = manifest.graphs | {TRACK: describe_graph(path)}
    manifest = MateformerManifest.model_validate(manifest.model_dump() | {"graphs": graphs, "tracks": contract})
    write_description(folder, manifest, replace_tracks((folder / CARD_FILE).read_text(), manifest))
    return load_artifact(folder, MateformerManifest)
