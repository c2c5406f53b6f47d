"""`fingerpost-train export` for LWLM: writes an artifact, with spreads calibrated on the validation streets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from torch import Tensor, nn

from models.artifact import RADII_CONFIDENCE, SCHEMA_VERSION, LwlmContract, LwlmManifest, LwlmScales
from models.lwlm.card import lwlm_card
from models.lwlm.data import load_links
from models.lwlm.decoders import fuse, invert, turn_into
from models.lwlm.decoding import FEWEST_STATIONS, Lwlm, decode, fuse_stations, keep_stations, load_lwlm
from models.lwlm.evaluation import answer_users, measure_links, measure_users, summarise
from models.lwlm.labels import LabelledUsers, Snapshots, label_users
from models.lwlm.learner import DECODING, split_users
from models.lwlm.recipe import LwlmRecipe
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
from models.radio.tracing import parse_cells, table_path

FULL_INPUTS = {"csi": {0: "batch", 1: "antennas", 2: "subcarriers"}, "configuration": {0: "batch"}}
FULL_OUTPUTS = ["range", "aoa", "line_of_sight", "position", "covariance", "attention", "embedding"]
FUSE_INPUTS = {
    "positions": {0: "batch", 1: "stations"},
    "covariances": {0: "batch", 1: "stations"},
    "attention": {0: "batch", 1: "stations"},
}
FUSE_OUTPUTS = ["position", "covariance", "weights"]
CALIBRATION_SEED = 2029


class Full(nn.Module):
    """What the graph ``full`` computes: see `models.artifact.LwlmManifest`."""

    def __init__(self, model: Lwlm) -> None:
        super().__init__()
        self.model = model

    def forward(self, csi: Tensor, configuration: Tensor) -> tuple[Tensor, ...]:
        decoded, encoded = self.model(csi, configuration)
        return (
            torch.stack([decoded.range, decoded.range_sigma], dim=-1),
            torch.stack([decoded.aoa, decoded.aoa_sigma], dim=-1),
            decoded.line_of_sight.sigmoid(),
            decoded.position,
            decoded.covariance,
            decoded.attention,
            torch.cat([encoded.summary, encoded.tokens.mean(1)], dim=-1),
        )


class Fuse(nn.Module):
    """What the graph ``fuse`` computes."""

    def forward(self, positions: Tensor, covariances: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        return tuple(fuse(positions, covariances, attention))


def export_run(recipe: LwlmRecipe, run: Path, folder: Path, paths: Path) -> None:
    """Exports the decoders of a finished run, with spreads calibrated on the validation streets.

    Raises `ParityLost`, `RecipeChanged` for a run of another recipe, and `FileNotFoundError` for a missing checkpoint
    or path table.
    """
    model = load_lwlm(run / DECODING, recipe.for_decoders())
    rounded = round_weights(model)
    _, tested = split_users(recipe, paths)
    links = load_links(recipe.streets.validation, recipe.streets.stations, paths)
    validation = label_users(links, torch.arange(links.users), recipe.tested, CALIBRATION_SEED)
    folder.mkdir(parents=True, exist_ok=True)
    example = tested.groups[0].take(torch.arange(2))
    inputs = example.csi.flatten(0, 1), example.configuration.flatten(0, 1)
    write_graph(Full(rounded), inputs, FULL_INPUTS, FULL_OUTPUTS, folder / "full.onnx")
    several = torch.rand(2, 3, 2), torch.eye(2).expand(2, 3, 2, 2).contiguous(), torch.rand(2, 3)
    write_graph(Fuse(), several, FUSE_INPUTS, FUSE_OUTPUTS, folder / "fuse.onnx")
    check_parity(rounded, [group.take(torch.arange(1 + i)) for i, group in enumerate(tested.groups)], folder)

    scales = calibrate_scales(rounded, validation)
    answered = answer_users(rounded, tested, torch.device("cpu"))
    summary = summarise(measure_links(answered), measure_users(answered))
    covered = measure_coverage(rounded, tested, scales)
    configurations, radio = recipe.configurations, recipe.radio
    manifest = LwlmManifest(
        schema_version=SCHEMA_VERSION,
        family=recipe.family,
        name=recipe.name,
        version=recipe.version,
        created_at=current_time(),
        graphs={name: describe_graph(folder / f"{name}.onnx") for name in ("full", "fuse")},
        csi=LwlmContract(
            antennas=tuple(configurations.antennas),
            subcarriers=tuple(recipe.tested.subcarriers),
            minimum_bandwidth=configurations.bandwidth[0],
            maximum_bandwidth=configurations.bandwidth[1],
            minimum_carrier_frequency=recipe.carrier_frequency[0],
            maximum_carrier_frequency=recipe.carrier_frequency[1],
            spacing=radio.array.spacing,
        ),
        stations=recipe.streets.stations,
        scales=scales,
        training_data_digest=digest_tables(list_tables(recipe.streets.train, recipe.streets.stations, paths)),
        metrics=name_metrics(summary)
        | {f"coverage of 95 % intervals, {name}": share for name, share in covered.items()},
        opset=OPSET,
        exporter=exporter_versions(),
    )
    parameters = sum(one.numel() for one in model.parameters())
    write_description(folder, manifest, lwlm_card(recipe, manifest, parameters))
    write_training_record(folder, recipe, model, run / DECODING)


def list_tables(ranges: list[str], stations: int, paths: Path) -> list[Path]:
    """The path tables of all stations of streets such as ``munich:300-303``."""
    return [table_path(paths, city, seed, one) for city, seed in parse_cells(ranges) for one in range(stations)]


def check_parity(model: Lwlm, drawn: list[Snapshots], folder: Path) -> float:
    """The largest distance in metres between the positions of PyTorch and of ONNX Runtime. Raises `ParityLost`."""
    full, joined = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("full", "fuse")
    )
    worst = 0.0
    for one in drawn:
        inputs = {"csi": one.csi.flatten(0, 1).numpy(), "configuration": one.configuration.flatten(0, 1).numpy()}
        with torch.inference_mode():
            expected = [value.numpy() for value in Full(model)(*(torch.from_numpy(value) for value in inputs.values()))]
            decoded = decode(model, one)
            fused = fuse_stations(decoded, one, one.reached)
        answers = full.run(None, inputs)
        positions, covariances = turn_into(decoded.position, decoded.covariance, one.yaw, one.station)
        attention = decoded.attention.masked_fill(~one.reached, -torch.inf)
        stations = {"positions": positions, "covariances": covariances, "attention": attention}
        together = joined.run(None, {name: values.numpy() for name, values in stations.items()})
        # Without a path there is noise alone, and nothing decides between its peaks.
        reached = one.reached.flatten().numpy()
        range, aoa, position = ((answers[i][reached], expected[i][reached]) for i in (0, 1, 3))
        pairs = [*((answer[:, :1], wanted[:, :1]) for answer, wanted in (range, aoa)), position]
        pairs.append((together[0], fused.position.numpy()))
        worst = max([worst, *(require_parity("full or fuse", *pair, PARITY_M) for pair in pairs)])
    return worst


class Scores(NamedTuple):
    """Errors in units of the predicted standard deviation; Mahalanobis distances of positions."""

    range: Tensor
    aoa: Tensor
    position: Tensor
    fused: Tensor


def score_errors(model: Lwlm, users: LabelledUsers, stations: int | None = None) -> Scores:
    """The scores of all links, and of fusions of so many stations of each user; None: of a random two or more."""
    generator = torch.Generator().manual_seed(CALIBRATION_SEED)
    scores: list[Scores] = []
    for drawn, decoded in answer_users(model, users, torch.device("cpu")):
        truth, reached = drawn.truth, drawn.reached
        fused = fuse_stations(decoded, drawn, keep_stations(reached, generator, stations))
        several = reached.sum(1) >= (stations or FEWEST_STATIONS)
        scores.append(
            Scores(
                ((decoded.range - truth.range).abs() / decoded.range_sigma)[reached],
                ((decoded.aoa - truth.aoa).abs() / decoded.aoa_sigma)[reached],
                mahalanobis(decoded.position - truth.position, decoded.covariance)[reached],
                mahalanobis(fused.position - drawn.user, fused.covariance)[several],
            )
        )
    return Scores(*(torch.cat(values) for values in zip(*scores, strict=True)))


def calibrate_scales(model: Lwlm, validation: LabelledUsers) -> LwlmScales:
    """Split conformal: the score of rank ceil((n + 1) · 0.95) among the validation streets' users.

    Fusions have one scale, the largest of those for two, three and more stations.
    """
    most = validation.groups[0].reached.shape[1]
    scores = {count: score_errors(model, validation, count) for count in range(FEWEST_STATIONS, most + 1)}
    own = scores[most]._asdict()
    del own["fused"]
    fused = max(conformal_quantile(one.fused) for one in scores.values())
    return LwlmScales(fused=fused, **{name: conformal_quantile(values) for name, values in own.items()})


def conformal_quantile(scores: Tensor) -> float:
    rank = min(len(scores), math.ceil((len(scores) + 1) * RADII_CONFIDENCE))
    return float(scores.sort().values[rank - 1])


def measure_coverage(model: Lwlm, tested: LabelledUsers, scales: LwlmScales) -> dict[str, float]:
    """The share of tested errors within the stated 95 % intervals and ellipses, of fusions by number of stations."""
    most = tested.groups[0].reached.shape[1]
    scores = {count: score_errors(model, tested, count) for count in range(FEWEST_STATIONS, most + 1)}
    errors = {name: (values, name) for name, values in scores[most]._asdict().items() if name != "fused"}
    errors |= {f"{count} stations": (one.fused, "fused") for count, one in scores.items()}
    return {name: float((values <= getattr(scales, scale)).float().mean()) for name, (values, scale) in errors.items()}


def mahalanobis(error: Tensor, covariance: Tensor) -> Tensor:
    """[..., 2], [..., 2, 2] -> [...]"""
    return torch.einsum("...i,...ij,...j->...", error, invert(covariance), error).clamp_min(0).sqrt()


def name_metrics(summary: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The manifest's figures. A multi-BS error is that of all stations of a user together."""
    names = {"toa": "range error (m)", "aoa": "AoA error (degrees)", "single": "position error, one station (m)"}
    names |= {"multi": "position error, all stations (m)", "los": "share of links with line of sight recognised"}
    parts = {"all": "", "los": ", LOS", "nlos": ", NLOS", "median": ", median"}
    return {
        f"{name}{end}": round(summary[task][part], 4)
        for task, name in names.items()
        for part, end in parts.items()
        if part in summary[task] and not (task == "los" and part == "median")
    }
