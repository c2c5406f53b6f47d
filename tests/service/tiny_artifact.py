"""A real artifact with a network that takes no time: the answer is the middle of the neighbourhood, or beside it.

Where the first real number of a user's CSI is not positive the network fails, as a real one may: it answers NaN.
"""

import hashlib
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from models.artifact import CsiContract, Graph, MateformerArtifact, MateformerManifest, TensorSpec, load_artifact

ANTENNAS, SUBCARRIERS = 4, 3

_Shapes = dict[str, list[int | str]]

_DOUBTS = [
    helper.make_node("Gather", ["csi", "zero"], ["antenna"], axis=2),
    helper.make_node("Gather", ["antenna", "zero"], ["subcarrier"], axis=2),
    helper.make_node("Gather", ["subcarrier", "zero"], ["real"], axis=2),
    helper.make_node("Log", ["real"], ["log"]),
    helper.make_node("Mul", ["log", "nothing"], ["nothing_or_nan"]),
    helper.make_node("Unsqueeze", ["nothing_or_nan", "last"], ["doubt"]),
]
_ADD = [
    helper.make_node("Add", ["middle", "doubt"], ["there"]),
    helper.make_node("Add", ["there", "beside"], ["positions"]),
]
_CONSTANTS = [
    helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
    helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
]


def write_tiny_artifact(
    directory: Path,
    neighbours: int = 8,
    minimum: int = 4,
    passes: int = 1,
    antennas: int = ANTENNAS,
    subcarriers: int = SUBCARRIERS,
    tile_pitch: float = 0.0,
    beside: float = 0.0,
) -> MateformerArtifact:
    """With a `tile_pitch` its neighbourhoods become frames: their middles. Answers are `beside` them, metres."""
    channel = [antennas, subcarriers, 2]
    known: _Shapes = {
        "csi_known": ["batch", "neighbours", *channel],
        "positions_known": ["batch", "neighbours", 2],
    }
    users: _Shapes = {"csi": ["batch", "queries", *channel]}
    slots: _Shapes = {"slots": ["batch"]}
    pool: _Shapes = {"middles": ["pool", 1, 2]}
    positions: _Shapes = {"positions": ["batch", "queries", 2]}
    middle = helper.make_node("ReduceMean", ["positions_known"], ["middle"], axes=[1], keepdims=1)
    graphs = {"full": _graph(directory, "full", known | users, positions, [*_DOUBTS, middle, *_ADD], beside)}
    if tile_pitch:
        rows = helper.make_node("Unsqueeze", ["slots", "last"], ["rows"])
        into = helper.make_node("ScatterND", ["middles", "rows", "middle"], ["written_middles"])
        out_of = helper.make_node("Gather", ["middles", "slots"], ["middle"], axis=0)
        written: _Shapes = {"written_middles": pool["middles"]}
        graphs["frame"] = _graph(directory, "frame", known | slots | pool, written, [middle, rows, into], beside)
        graphs["query"] = _graph(directory, "query", users | slots | pool, positions, [*_DOUBTS, out_of, *_ADD], beside)
    manifest = MateformerManifest(
        schema_version=1,
        family="mateformer",
        name="middle",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        graphs=graphs,
        csi=CsiContract(antennas=antennas, subcarriers=subcarriers, carrier_frequency=3.5e9, bandwidth=40e6),
        neighbourhood_size=neighbours,
        minimum_neighbours=minimum,
        passes=passes,
        tile_pitch=tile_pitch,
        training_data_digest="0" * 64,
        metrics={},
        opset=17,
        exporter="tests",
    )
    (directory / "artifact.json").write_text(manifest.model_dump_json())
    return load_artifact(directory)


def _graph(
    directory: Path, name: str, inputs: _Shapes, outputs: _Shapes, nodes: list[NodeProto], beside: float
) -> Graph:
    constants = [*_CONSTANTS, helper.make_tensor("beside", TensorProto.FLOAT, [], [beside])]
    taken = {one for node in nodes for one in node.input}
    graph = helper.make_graph(
        nodes,
        name,
        [_value(*one) for one in inputs.items()],
        [_value(*one) for one in outputs.items()],
        [constant for constant in constants if constant.name in taken],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    (directory / f"{name}.onnx").write_bytes(content)
    return Graph(
        file=f"{name}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=[TensorSpec(name=one, dtype=_dtype(one), shape=shape) for one, shape in inputs.items()],
        outputs=[TensorSpec(name=one, dtype=_dtype(one), shape=shape) for one, shape in outputs.items()],
    )


def _value(name: str, shape: list[int | str]) -> ValueInfoProto:
    kind = TensorProto.INT64 if _dtype(name) == "int64" else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, shape)


def _dtype(name: str) -> str:
    return "int64" if name == "slots" else "float32"
