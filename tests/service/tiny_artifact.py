"""A real artifact with a network that takes no time: the answer is the middle of the neighbourhood.

Where the first real number of a user's CSI is not positive the network fails, as a real one may: it answers NaN.
"""

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from models.artifact import Artifact, ArtifactManifest, CsiContract, Graph, TensorSpec, load_artifact

ANTENNAS, SUBCARRIERS = 4, 3


def write_tiny_artifact(
    directory: Path,
    neighbours: int = 8,
    minimum: int = 4,
    passes: int = 1,
    antennas: int = ANTENNAS,
    subcarriers: int = SUBCARRIERS,
) -> Artifact:
    channel = [antennas, subcarriers, 2]
    shapes: dict[str, list[int | str]] = {
        "csi_known": ["batch", "neighbours", *channel],
        "positions_known": ["batch", "neighbours", 2],
        "csi": ["batch", "queries", *channel],
    }
    nodes = [
        helper.make_node("Gather", ["csi", "zero"], ["antenna"], axis=2),
        helper.make_node("Gather", ["antenna", "zero"], ["subcarrier"], axis=2),
        helper.make_node("Gather", ["subcarrier", "zero"], ["real"], axis=2),
        helper.make_node("Log", ["real"], ["log"]),
        helper.make_node("Mul", ["log", "nothing"], ["nothing_or_nan"]),
        helper.make_node("Unsqueeze", ["nothing_or_nan", "last"], ["doubt"]),
        helper.make_node("ReduceMean", ["positions_known"], ["middle"], axes=[1], keepdims=1),
        helper.make_node("Add", ["middle", "doubt"], ["positions"]),
    ]
    graph = helper.make_graph(
        nodes,
        "middle",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("positions", TensorProto.FLOAT, ["batch", "queries", 2])],
        [
            helper.make_tensor("zero", TensorProto.INT64, [], [0]),
            helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    (directory / "full.onnx").write_bytes(content)
    manifest = ArtifactManifest(
        schema_version=1,
        family="mateformer",
        name="middle",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        graphs={
            "full": Graph(
                file="full.onnx",
                sha256=hashlib.sha256(content).hexdigest(),
                inputs=[TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()],
                outputs=[TensorSpec(name="positions", dtype="float32", shape=["batch", "queries", 2])],
            )
        },
        csi=CsiContract(antennas=antennas, subcarriers=subcarriers, carrier_frequency=3.5e9, bandwidth=40e6),
        neighbourhood_size=neighbours,
        minimum_neighbours=minimum,
        passes=passes,
        tile_pitch=0.0,
        training_data_digest="0" * 64,
        metrics={},
        opset=17,
        exporter="tests",
    )
    (directory / "artifact.json").write_text(manifest.model_dump_json())
    return load_artifact(directory)
