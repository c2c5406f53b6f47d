"""A real artifact for trajectories with a network that takes no time: each vertex is at its range and AoD.

The centroid is the middle of these. All ellipses point east and are half as wide as long. Where the first real number
of a snapshot is not positive its vertex is NaN.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.artifact import (
    BandContract,
    Graph,
    PathFeatureScales,
    Scales,
    TensorSpec,
    TrajectoryArtifact,
    TrajectoryManifest,
    TrajectoryScales,
    load_artifact,
)

VERTICES, RADIUS, TOLERANCE = 3, 2.0, 0.5
SCALES = PathFeatureScales(
    measured=TrajectoryScales(
        vertex=Scales(factors={50: 0.25, 95: 0.5}), centroid=Scales(factors={50: 0.125, 95: 0.25})
    ),
    estimated=TrajectoryScales(vertex=Scales(factors={50: 1.0, 95: 2.0}), centroid=Scales(factors={50: 0.5, 95: 1.5})),
)
SPREAD = np.array([[1.0, 0.0], [0.0, 0.25]], np.float32)  # square metres


def write_tiny_trajectory_artifact(
    directory: Path,
    cells: tuple[str, ...],
    antennas: int,
    subcarriers: int,
    bandwidth: float,
    carrier: float,
    beside: float = 0.0,
) -> TrajectoryArtifact:
    """`beside`: metres that every answer lies too far east and north."""
    inputs: dict[str, list[int | str]] = {
        "csi": ["batch", VERTICES, antennas, subcarriers, 2],
        "path_features": ["batch", VERTICES, 4],
    }
    outputs: dict[str, list[int | str]] = {
        "positions": ["batch", VERTICES + 1, 2],
        "covariances": ["batch", VERTICES + 1, 2, 2],
    }
    nodes = [
        helper.make_node("Gather", ["path_features", "zero"], ["departure"], axis=2),
        helper.make_node("Gather", ["path_features", "two"], ["distance"], axis=2),
        helper.make_node("Gather", ["csi", "zero"], ["antenna"], axis=2),
        helper.make_node("Gather", ["antenna", "zero"], ["subcarrier"], axis=2),
        helper.make_node("Gather", ["subcarrier", "zero"], ["real"], axis=2),
        helper.make_node("Log", ["real"], ["log"]),
        helper.make_node("Mul", ["log", "nothing"], ["nothing_or_nan"]),
        helper.make_node("Add", ["distance", "nothing_or_nan"], ["doubted"]),
        helper.make_node("Cos", ["departure"], ["cos"]),
        helper.make_node("Sin", ["departure"], ["sin"]),
        helper.make_node("Mul", ["doubted", "cos"], ["east"]),
        helper.make_node("Mul", ["doubted", "sin"], ["north"]),
        helper.make_node("Unsqueeze", ["east", "last"], ["easts"]),
        helper.make_node("Unsqueeze", ["north", "last"], ["norths"]),
        helper.make_node("Concat", ["easts", "norths"], ["exact"], axis=2),
        helper.make_node("Add", ["exact", "beside"], ["points"]),
        helper.make_node("ReduceMean", ["points"], ["centroid"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["points", "centroid"], ["positions"], axis=1),
        helper.make_node("Mul", ["positions", "nothing"], ["nothings"]),
        helper.make_node("Unsqueeze", ["nothings", "last"], ["column"]),
        helper.make_node("Add", ["column", "spread"], ["covariances"]),
    ]
    graph = helper.make_graph(
        nodes,
        "polar",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [
            numpy_helper.from_array(np.array(0), "zero"),
            numpy_helper.from_array(np.array(2), "two"),
            numpy_helper.from_array(np.float32(0), "nothing"),
            numpy_helper.from_array(np.float32(beside), "beside"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(SPREAD, "spread"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "full.onnx").write_bytes(content)
    manifest = TrajectoryManifest(
        schema_version=2,
        family="scadf-moe",
        name="polar",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        graphs={
            "full": Graph(
                file="full.onnx",
                sha256=hashlib.sha256(content).hexdigest(),
                inputs=[TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in inputs.items()],
                outputs=[TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in outputs.items()],
            )
        },
        csi=BandContract(antennas=antennas, subcarriers=subcarriers, bandwidth=bandwidth),
        carrier_frequencies=(carrier, 28e9),
        cells=cells,
        vertices=VERTICES,
        radius=RADIUS,
        tolerance=TOLERANCE,
        scales=SCALES,
        training_data_digest="0" * 64,
        metrics={"vertex_rmse": 0.1},
        opset=17,
        exporter="tests",
    )
    (directory / "artifact.json").write_text(manifest.model_dump_json())
    return load_artifact(directory, TrajectoryManifest)
