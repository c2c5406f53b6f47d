"""`fingerpost-train export` for LWLM: writes an artifact, with spreads calibrated on the validation streets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from models.artifact import LWLM_SCHEMA_VERSION, LwlmContract, LwlmManifest
from models.lwlm.calibration import calibrate_scales, load_validation, measure_coverage, name_coverage
from models.lwlm.card import lwlm_card
from models.lwlm.decoders import fuse, turn_into
from models.lwlm.decoding import Lwlm, decode, fuse_stations, load_lwlm
from models.lwlm.evaluation import answer_users, measure_links, measure_users, summarise
from models.lwlm.labels import Snapshots
from models.lwlm.learner import DECODING, load_tested
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
    tested = load_tested(recipe, paths)
    validation = load_validation(recipe, paths)
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
    coverage = measure_coverage(rounded, tested, scales)
    configurations, radio = recipe.configurations, recipe.radio
    manifest = LwlmManifest(
        schema_version=LWLM_SCHEMA_VERSION,
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
        metrics=name_metrics(summary) | name_coverage(coverage),
        opset=OPSET,
        exporter=exporter_versions(),
    )
    parameters = sum(one.numel() for one in model.parameters())
    write_description(folder, manifest, lwlm_card(recipe, manifest, parameters, coverage))
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
