import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.pipeline.eight_bits import BLOCK, quantise, round_weights

IN, OUT = 200, 64  # not a whole number of blocks
RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(IN, OUT)).astype(np.float16), RNG.normal(size=(OUT, OUT)).astype(np.float16)
BIAS = RNG.normal(size=OUT).astype(np.float32)


def make_model() -> onnx.ModelProto:
    """As the exporter writes it: weights in half precision, cast and joined at load; a map that is too small."""
    halves = np.split(SECOND, 2)
    stored: dict[str, np.ndarray] = {
        "first": FIRST,
        "upper": halves[0],
        "lower": halves[1],
        "bias": BIAS,
        "small": np.eye(OUT, 2),
    }
    nodes = [
        helper.make_node("Cast", ["first"], ["first_float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "first_float"], ["y"], "embed"),
        helper.make_node("Cast", ["upper"], ["upper_float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["lower"], ["lower_float"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["upper_float", "lower_float"], ["second"], axis=0),
        helper.make_node("Gemm", ["y", "second", "bias"], ["z"], "mixed", transB=1),
        helper.make_node("Cast", ["small"], ["small_float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["z", "small_float"], ["answer"], "output"),
    ]
    graph = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", IN])],
        [
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["b", OUT]),
            helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["b", 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(["z"], {"x": x})[0]
    return answer


def operators(model: onnx.ModelProto) -> dict[str, str]:
    return {node.name: node.op_type for node in model.graph.node if node.name}


def test_maps_in_eight_bits_answer_nearly_the_same() -> None:
    model, x = make_model(), RNG.normal(size=(5, IN)).astype(np.float32)
    changed = quantise(model, kept=lambda weights: False)
    assert operators(changed) == {"embed": "MatMulNBits", "mixed": "MatMulNBits", "output": "MatMul"}
    expected = run(model, x)
    np.testing.assert_allclose(expected, x @ FIRST.astype(np.float32) @ SECOND.T.astype(np.float32) + BIAS, rtol=1e-3)
    error = run(changed, x) - expected
    assert 0 < error.std() < 0.015 * expected.std()
    assert operators(model)["embed"] == "MatMul"  # the model that was given stays


def test_a_map_that_is_kept_stays_in_half_precision() -> None:
    changed = quantise(make_model(), kept=lambda weights: weights.shape == (OUT, IN))
    assert operators(changed)["embed"] == "MatMul"
    assert operators(changed)["mixed"] == "MatMulNBits"
    assert {tensor.name for tensor in changed.graph.initializer} >= {"first", "small", "bias"}


def test_weights_that_nothing_reads_any_more_are_dropped() -> None:
    changed = quantise(make_model(), kept=lambda weights: False)
    assert not {"first", "upper", "lower"} & {tensor.name for tensor in changed.graph.initializer}
    assert len(changed.SerializeToString()) < 0.75 * len(make_model().SerializeToString())


@pytest.mark.parametrize("columns", [BLOCK, 3 * BLOCK, 3 * BLOCK + 1, 1])
def test_no_weight_moves_by_more_than_half_a_step(columns: int) -> None:
    weights = RNG.normal(size=(7, columns)).astype(np.float32)
    weights[3] = 0
    rounded, scales = round_weights(weights)
    assert rounded.shape == (7, -(-columns // BLOCK), BLOCK)
    steps = rounded.astype(np.float32) - 128
    back = (steps * scales[..., None]).reshape(7, -1)[:, :columns]
    assert (np.abs(back - weights) <= np.repeat(scales, BLOCK, axis=1)[:, :columns] / 2 + 1e-6).all()
    assert not back[3].any()
