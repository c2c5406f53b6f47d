"""The gain of fused attention on a CPU: ``python -m benchmarks.attention``.

One layer's attention with d 256 against cached frames, with the 8 heads of both attentions side by side. Compares
separate products and softmax, with keys in the layout of the product, with ONNX's fused operator, which the graphs use,
and with ONNX Runtime's own operator. Prints median microseconds; the runs alternate.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper

HEADS, WIDTH, NEIGHBOURS = 8, 64, 64
SHAPES = ((1, 1), (4, 1), (16, 1), (1, 16), (1, 64), (8, 8))  # frames, users per frame
_ROUNDS = 60
_SPLIT = [
    helper.make_node("Reshape", ["Q", "in_heads"], ["Q_rows"]),
    helper.make_node("Transpose", ["Q_rows"], ["Q_heads"], perm=[0, 2, 1, 3]),
]
_JOIN = [
    helper.make_node("Transpose", ["mixed"], ["rows"], perm=[0, 2, 1, 3]),
    helper.make_node("Reshape", ["rows", "joined"], ["out"]),
]
_OPERATORS = {
    "MatMul, Add, Softmax, MatMul": (
        *_SPLIT,
        helper.make_node("MatMul", ["Q_heads", "K"], ["alike"]),
        helper.make_node("Add", ["alike", "prior"], ["weights"]),
        helper.make_node("Softmax", ["weights"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "V"], ["mixed"]),
        *_JOIN,
    ),
    "Attention (ONNX 23)": (
        *_SPLIT,
        helper.make_node("Attention", ["Q_heads", "K", "V", "prior"], ["mixed"], scale=1.0),
        *_JOIN,
    ),
    "MultiHeadAttention (ONNX Runtime)": (
        helper.make_node(
            "MultiHeadAttention",
            ["Q", "K", "V", "", "", "prior"],
            ["out"],
            "",
            "",
            "com.microsoft",
            num_heads=HEADS,
            scale=1.0,
        ),
    ),
}


def main() -> None:
    for threads in (1, 2):
        sessions = {name: _session(nodes, threads, name) for name, nodes in _OPERATORS.items()}
        for frames, users in SHAPES:
            print(f"{threads} thread(s), {frames} frames x {users} users:", _medians(sessions, frames, users))


def _medians(sessions: dict[str, ort.InferenceSession], frames: int, users: int) -> str:
    rng = np.random.default_rng(0)
    shapes = {
        "Q": (frames, users, HEADS * WIDTH),
        "K": (frames, HEADS, NEIGHBOURS, WIDTH),
        "V": (frames, HEADS, NEIGHBOURS, WIDTH),
        "prior": (frames, HEADS, users, NEIGHBOURS),
    }
    feeds = {name: rng.standard_normal(shape, np.float32) / 8 for name, shape in shapes.items()}
    ready = feeds | {"K": np.ascontiguousarray(feeds["K"].swapaxes(2, 3))}  # the layout in frames
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    answers = {}
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter()
            answers[name] = session.run(None, ready if name.startswith("MatMul") else feeds)[0]
            seconds[name].append(time.perf_counter() - started)
    first = next(iter(answers.values()))
    assert all(np.allclose(answer, first, atol=1e-4) for answer in answers.values())
    return ", ".join(f"{name} {1e6 * np.median(times):.0f}" for name, times in seconds.items())


def _session(nodes: tuple[NodeProto, ...], threads: int, name: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = _model(nodes, ready=name.startswith("MatMul"))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _model(nodes: tuple[NodeProto, ...], ready: bool) -> ModelProto:
    keys = [WIDTH, "n"] if ready else ["n", WIDTH]
    inputs = {
        "Q": ["b", "t", HEADS * WIDTH],
        "K": ["b", HEADS, *keys],
        "V": ["b", HEADS, "n", WIDTH],
        "prior": ["b", HEADS, "t", "n"],
    }
    sizes = {"in_heads": [0, 0, HEADS, WIDTH], "joined": [0, 0, HEADS * WIDTH]}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", "t", HEADS * WIDTH])],
        [
            helper.make_tensor(name, TensorProto.INT64, [len(size)], size)
            for name, size in sizes.items()
            if name in used
        ],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


if __name__ == "__main__":
    main()
