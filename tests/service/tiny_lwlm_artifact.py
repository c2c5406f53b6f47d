"""A real artifact that measures snapshots with arithmetic instead of a network: exact for a channel of one path.

The phase slope over the subcarriers gives the range, that over the antennas the angle, both the position. The line of
sight is as probable as neighbouring subcarriers are coherent. Predicted sigmas are constant. Base stations are fused by
the inverse of their variances. Where the first real number of a snapshot is not positive its position is NaN, unless
the artifact is written without doubts.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.artifact import (
    Graph,
    LwlmArtifact,
    LwlmContract,
    LwlmManifest,
    LwlmScales,
    Scales,
    TensorSpec,
    load_artifact,
)
from reference_db.path_features import SPEED_OF_LIGHT

RANGE_SIGMA, AOA_SIGMA = 0.5, 0.02  # metres, radians
SCALES = LwlmScales(
    range=Scales(factors={68: 1.0, 95: 2.0}),
    aoa=Scales(factors={68: 1.5, 95: 3.0}),
    position=Scales(factors={68: 1.5, 95: 2.5}),
    fused=Scales(factors={68: 2.0, 95: 4.0}),
)
STATIONS = 4
CONTRACT = LwlmContract(
    antennas=(8, 16),
    subcarriers=(16, 32),
    minimum_bandwidth=10e6,
    maximum_bandwidth=50e6,
    minimum_carrier_frequency=2e9,
    maximum_carrier_frequency=6e9,
    spacing=0.5,
)

_Shapes = dict[str, list[int | str]]


class _Builder:
    """Nodes and constants of a graph under way. Every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def do(self, op: str, *inputs: str | float, into: str | None = None, **attributes: object) -> str:
        names = [one if isinstance(one, str) else self.constant(np.float32(one)) for one in inputs]
        made = into or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [made], **attributes))
        return made

    def constant(self, value: object) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def take(self, tensor: str, index: int, axis: int) -> str:
        return self.do("Gather", tensor, self.constant(np.int64(index)), axis=axis)

    def cut(self, tensor: str, first: int, last: int, axis: int) -> str:
        return self.do("Slice", tensor, *(self.constant(np.array([one])) for one in (first, last, axis)))

    def stack(self, *parts: str, into: str | None = None) -> str:
        last = self.constant(np.array([-1]))
        return self.do("Concat", *(self.do("Unsqueeze", part, last) for part in parts), into=into, axis=-1)

    def total(self, tensor: str, *axes: int) -> str:
        return self.do("ReduceSum", tensor, self.constant(np.array(axes)), keepdims=0)

    def correlate(self, real: str, imaginary: str, axis: int) -> tuple[str, str]:
        """Real and imaginary part of the correlation of neighbours along an axis, `[b]` each."""
        most = np.iinfo(np.int64).max
        (a, b), (c, d) = ((self.cut(one, 1, most, axis), self.cut(one, 0, -1, axis)) for one in (real, imaginary))
        in_phase = self.do("Add", self.do("Mul", a, b), self.do("Mul", c, d))
        in_quadrature = self.do("Sub", self.do("Mul", c, b), self.do("Mul", a, d))
        return self.total(in_phase, 1, 2), self.total(in_quadrature, 1, 2)

    def length(self, x: str, y: str) -> str:
        return self.do("Sqrt", self.do("Add", self.do("Mul", x, x), self.do("Mul", y, y)))

    def angle(self, x: str, y: str) -> str:
        """atan2(y, x), which is no operator of ONNX."""
        along = self.do("Add", self.do("Add", self.length(x, y), x), 1e-30)  # not 0 where the angle is pi
        half = self.do("Atan", self.do("Div", y, along))
        return self.do("Mul", half, 2.0)


def write_tiny_lwlm_artifact(
    directory: Path,
    contract: LwlmContract = CONTRACT,
    beside: float = 0.0,
    doubts: bool = True,
    version: str = "1",
) -> LwlmArtifact:
    """`beside`: metres that every answer lies too far along broadside."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = LwlmManifest(
        schema_version=2,
        family="lwlm",
        name="phase-slopes",
        version=version,
        created_at="2026-01-01T00:00:00Z",
        graphs={"full": _write_full(directory, contract, beside, doubts), "fuse": _write_fuse(directory)},
        csi=contract,
        stations=STATIONS,
        scales=SCALES,
        training_data_digest="0" * 64,
        metrics={"position_mean": 0.1},
        opset=17,
        exporter="tests",
    )
    (directory / "artifact.json").write_text(manifest.model_dump_json())
    return load_artifact(directory, LwlmManifest)


def _write_full(directory: Path, contract: LwlmContract, beside: float, doubts: bool) -> Graph:
    make = _Builder()
    real, imaginary = make.take("csi", 0, 3), make.take("csi", 1, 3)
    bandwidth, height = make.take("configuration", 0, 1), make.take("configuration", 1, 1)
    subcarriers = make.do("Cast", make.take(make.do("Shape", "csi"), 2, 0), to=TensorProto.FLOAT)

    along_band = make.correlate(real, imaginary, 2)
    turns = make.do("Mul", make.angle(*along_band), -1 / (2 * math.pi))
    turns = make.do("Sub", turns, make.do("Floor", turns))  # no delay is negative
    unambiguous = make.do("Div", make.do("Mul", subcarriers, SPEED_OF_LIGHT), bandwidth)
    length = make.do("Mul", turns, unambiguous)
    far = make.do("Sub", make.do("Mul", length, length), make.do("Mul", height, height))
    away = make.do("Sqrt", make.do("Max", far, 1e-6))
    slope = make.do("Mul", make.angle(*make.correlate(real, imaginary, 1)), 1 / (2 * math.pi * contract.spacing))
    sine = make.do("Min", make.do("Max", make.do("Div", make.do("Mul", slope, length), away), -1.0), 1.0)
    aoa = make.do("Asin", sine)

    powers = make.do("Add", make.do("Mul", real, real), make.do("Mul", imaginary, imaginary))
    sizes = make.do("Sqrt", powers)
    most = np.iinfo(np.int64).max
    pairs = make.do("Mul", make.cut(sizes, 1, most, 2), make.cut(sizes, 0, -1, 2))
    make.do("Div", make.length(*along_band), make.total(pairs, 1, 2), into="line_of_sight")

    cos, sin = make.do("Cos", aoa), make.do("Sin", aoa)
    first = make.take(make.take(real, 0, 1), 0, 1)
    doubt = make.do("Mul", make.do("Log", first) if doubts else first, 0.0)
    forward = make.do("Add", make.do("Add", make.do("Mul", away, cos), doubt), beside)
    make.stack(forward, make.do("Mul", away, sin), into="position")

    nothing = make.do("Mul", aoa, 0.0)
    make.stack(length, make.do("Add", nothing, RANGE_SIGMA), into="range")
    make.stack(aoa, make.do("Add", nothing, AOA_SIGMA), into="aoa")
    across = make.do("Mul", make.do("Mul", away, away), AOA_SIGMA**2)
    square = {"cc": make.do("Mul", cos, cos), "cs": make.do("Mul", cos, sin), "ss": make.do("Mul", sin, sin)}
    radial = {name: make.do("Mul", part, RANGE_SIGMA**2) for name, part in square.items()}
    around = {name: make.do("Mul", part, across) for name, part in square.items()}
    mixed = make.do("Sub", radial["cs"], around["cs"])
    top = make.stack(make.do("Add", radial["cc"], around["ss"]), mixed)
    bottom = make.stack(mixed, make.do("Add", radial["ss"], around["cc"]))
    rows = (make.do("Unsqueeze", row, make.constant(np.array([1]))) for row in (top, bottom))
    make.do("Concat", *rows, into="covariance", axis=1)
    make.do("Neg", make.do("Log", make.do("Add", across, RANGE_SIGMA**2)), into="attention")
    make.stack(length, aoa, into="embedding")
    return _write(
        directory,
        "full",
        make,
        {"csi": ["batch", "antennas", "subcarriers", 2], "configuration": ["batch", 2]},
        {
            "range": ["batch", 2],
            "aoa": ["batch", 2],
            "line_of_sight": ["batch"],
            "position": ["batch", 2],
            "covariance": ["batch", 2, 2],
            "attention": ["batch"],
            "embedding": ["batch", 2],
        },
    )


def _write_fuse(directory: Path) -> Graph:
    make = _Builder()
    weights = make.do("Softmax", "attention", into="weights", axis=1)
    of_positions = make.do("Unsqueeze", weights, make.constant(np.array([2])))
    of_covariances = make.do("Unsqueeze", make.do("Mul", weights, weights), make.constant(np.array([2, 3])))
    one = make.constant(np.array([1]))
    make.do("ReduceSum", make.do("Mul", "positions", of_positions), one, into="position", keepdims=0)
    make.do("ReduceSum", make.do("Mul", "covariances", of_covariances), one, into="covariance", keepdims=0)
    return _write(
        directory,
        "fuse",
        make,
        {
            "positions": ["batch", "stations", 2],
            "covariances": ["batch", "stations", 2, 2],
            "attention": ["batch", "stations"],
        },
        {"position": ["batch", 2], "covariance": ["batch", 2, 2], "weights": ["batch", "stations"]},
    )


def _write(directory: Path, name: str, made: _Builder, inputs: _Shapes, outputs: _Shapes) -> Graph:
    graph = helper.make_graph(
        made.nodes,
        name,
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in inputs.items()],
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in outputs.items()],
        made.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    (directory / f"{name}.onnx").write_bytes(content)
    return Graph(
        file=f"{name}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=[TensorSpec(name=one, dtype="float32", shape=shape) for one, shape in inputs.items()],
        outputs=[TensorSpec(name=one, dtype="float32", shape=shape) for one, shape in outputs.items()],
    )
