"""A real artifact with a network that takes no time: the answer is the middle of the neighbourhood, or beside it.

It serves cells of any shape inside `RADIOS`. The features of a snapshot are its first real number and its mean power
in the cell's unit. Where that number is not positive the network fails, as a real one may: it answers NaN.
"""

import hashlib
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from models.artifact import (
    Graph,
    MateformerArtifact,
    MateformerManifest,
    RadioContract,
    Range,
    TensorSpec,
    TracksContract,
    load_artifact,
)
from models.artifact.track_numbers import NUMBERS

FEATURES = 2
ANTENNAS, SUBCARRIERS = 4, 3  # of tiny cells
RADIOS = RadioContract(
    antennas=Range(minimum=1, maximum=64),
    rows=Range(minimum=1, maximum=16),
    columns=Range(minimum=1, maximum=64),
    polarisations=Range(minimum=1, maximum=2),
    spacing=Range(minimum=0.4, maximum=0.7),
    subcarriers=Range(minimum=2, maximum=64),
    bandwidth=Range(minimum=10e6, maximum=100e6),
    carrier_frequency=Range(minimum=0.6e9, maximum=30e9),
)

SIGMA_M = 0.5  # the error that the network states on each axis


def only(antennas: int, subcarriers: int = SUBCARRIERS) -> RadioContract:
    """The ranges of a model that serves CSI of this shape alone."""
    shape = {"antennas": antennas, "subcarriers": subcarriers}
    return RADIOS.model_copy(update={name: Range(minimum=one, maximum=one) for name, one in shape.items()})


_Shapes = dict[str, list[int | str]]

_FIRST = ["zeros", "ones", "axes"]  # the first element along each axis but that of the snapshots
_DESCRIBE = [
    helper.make_node("Slice", ["csi", *_FIRST], ["corner"]),
    helper.make_node("Reshape", ["corner", "column"], ["first"]),
    helper.make_node("Mul", ["csi", "csi"], ["squares"]),
    helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[1, 2, 3, 4], keepdims=0),
    helper.make_node("Reshape", ["mean", "column"], ["power"]),
    helper.make_node("Mul", ["scale", "scale"], ["unit"]),
    helper.make_node("Div", ["power", "unit"], ["level"]),
    helper.make_node("Concat", ["first", "level"], ["features"], axis=1),
]


def _doubts(doubtful: bool) -> list[NodeProto]:
    """NaN for a first real number that is not positive, else 0; without doubts always 0."""
    return [
        helper.make_node("Gather", ["features", "zero"], ["real"], axis=2),
        helper.make_node("Log" if doubtful else "Sigmoid", ["real"], ["log"]),
        helper.make_node("Mul", ["log", "nothing"], ["nothing_or_nan"]),
        helper.make_node("Unsqueeze", ["nothing_or_nan", "last"], ["doubt"]),
    ]


_ANSWER = [
    helper.make_node("Add", ["middle", "doubt"], ["there"]),
    helper.make_node("Add", ["there", "beside"], ["positions"]),
    helper.make_node("Unsqueeze", ["doubt", "last"], ["doubts"]),
    helper.make_node("Add", ["doubts", "covariance"], ["covariances"]),
]
_TRACK = [
    helper.make_node("Identity", ["smoothed"], ["positions"]),
    helper.make_node("Mul", ["sigma", "sigma"], ["variance"]),
    helper.make_node("Unsqueeze", ["variance", "last_two"], ["variances"]),
    helper.make_node("Mul", ["variances", "identity"], ["covariances"]),
]
_CONSTANTS = [
    helper.make_tensor("last_two", TensorProto.INT64, [2], [2, 3]),
    helper.make_tensor("identity", TensorProto.FLOAT, [2, 2], [1.0, 0.0, 0.0, 1.0]),
    helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    helper.make_tensor("zeros", TensorProto.INT64, [4], [0] * 4),
    helper.make_tensor("ones", TensorProto.INT64, [4], [1] * 4),
    helper.make_tensor("axes", TensorProto.INT64, [4], [1, 2, 3, 4]),
    helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]),
    helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
    helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
    helper.make_tensor("covariance", TensorProto.FLOAT, [2, 2], [SIGMA_M**2, 0.0, 0.0, SIGMA_M**2]),
]


def write_tiny_artifact(
    directory: Path,
    neighbours: int = 8,
    minimum: int = 4,
    passes: int = 1,
    radios: RadioContract = RADIOS,
    tile_pitch: float = 0.0,
    beside: float = 0.0,
    doubtful: bool = True,
    few_beside: float | None = None,
    tracks: TracksContract | None = None,
) -> MateformerArtifact:
    """With a `tile_pitch` its neighbourhoods become frames: their middles. Answers are `beside` them, metres.

    A model that is not `doubtful` has an answer to any CSI. With `few_beside` it has a graph `query_few`, whose answers
    are as far beside the middles. With `tracks` it locates tracks: where the Kalman smoother does, with the smoother's
    error on both axes.
    """
    doubts = _doubts(doubtful)
    channel: list[int | str] = ["snapshots", "lines", "columns", "subcarriers", 2]
    describe: _Shapes = {"csi": channel, "scale": [1]}
    known: _Shapes = {
        "features_known": ["batch", "neighbours", FEATURES],
        "positions_known": ["batch", "neighbours", 2],
        "sigmas_known": ["batch", "neighbours"],
    }
    users: _Shapes = {"features": ["batch", "queries", FEATURES]}
    slots: _Shapes = {"slots": ["batch"]}
    pool: _Shapes = {"middles": ["pool", 1, 2]}
    answers: _Shapes = {"positions": ["batch", "queries", 2], "covariances": ["batch", "queries", 2, 2]}
    answer = [*_ANSWER]
    if tracks:
        answers["streams"] = ["batch", "queries", FEATURES]
        answer.append(helper.make_node("Identity", ["features"], ["streams"]))
    middle = helper.make_node("ReduceMean", ["positions_known"], ["middle"], axes=[1], keepdims=1)
    graphs = {
        "describe": _graph(directory, "describe", describe, {"features": ["snapshots", FEATURES]}, _DESCRIBE, beside),
        "full": _graph(directory, "full", known | users, answers, [*doubts, middle, *answer], beside),
    }
    if tracks:
        asked_of_tracks: _Shapes = {
            "streams": ["batch", "snapshots", FEATURES],
            "numbers": ["batch", "snapshots", NUMBERS],
            "smoothed": ["batch", "snapshots", 2],
            "sigma": ["batch", "snapshots"],
        }
        points: _Shapes = {
            "positions": ["batch", "snapshots", 2],
            "covariances": ["batch", "snapshots", 2, 2],
        }
        graphs["track"] = _graph(directory, "track", asked_of_tracks, points, _TRACK, beside)
    if tile_pitch:
        rows = helper.make_node("Unsqueeze", ["slots", "last"], ["rows"])
        into = helper.make_node("ScatterND", ["middles", "rows", "middle"], ["written_middles"])
        out_of = helper.make_node("Gather", ["middles", "slots"], ["middle"], axis=0)
        written: _Shapes = {"written_middles": pool["middles"]}
        graphs["frame"] = _graph(directory, "frame", known | slots | pool, written, [middle, rows, into], beside)
        asked, located = users | slots | pool, [*doubts, out_of, *answer]
        graphs["query"] = _graph(directory, "query", asked, answers, located, beside)
        if few_beside is not None:
            graphs["query_few"] = _graph(directory, "query_few", asked, answers, located, few_beside)
    manifest = MateformerManifest(
        schema_version=2,
        family="mateformer",
        name="middle",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        graphs=graphs,
        csi=radios,
        features=FEATURES,
        neighbourhood_size=neighbours,
        minimum_neighbours=minimum,
        passes=passes,
        tile_pitch=tile_pitch,
        tracks=tracks,
        training_data_digest="0" * 64,
        metrics={},
        opset=17,
        exporter="tests",
    )
    (directory / "artifact.json").write_text(manifest.model_dump_json())
    return load_artifact(directory, MateformerManifest)


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
