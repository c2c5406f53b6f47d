import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.artifact import Graph, TensorSpec
from service.inference.bound_graph import BoundGraph


@pytest.fixture
def product() -> BoundGraph:
    """`y` = `x` · `w`, element by element."""
    shapes: dict[str, list[int | str]] = {name: ["n"] for name in "xwy"}
    x, w, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "product", [x, w], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()]
    return BoundGraph(session, Graph(file="y.onnx", sha256="0" * 64, inputs=specs[:2], outputs=specs[2:]), {})


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def test_an_array_that_stays_bound_counts_in_every_run(product: BoundGraph) -> None:
    weights = floats(2, 3)
    assert product.run({"x": floats(1, 1), "w": weights})["y"].tolist() == [2, 3]
    assert product.run({"x": floats(5, 7), "w": weights})["y"].tolist() == [10, 21]


def test_another_array_replaces_the_one_that_was_bound(product: BoundGraph) -> None:
    weights = floats(2, 3)
    product.run({"x": floats(1, 1), "w": weights})
    assert product.run({"x": floats(1, 1), "w": floats(4, 5)})["y"].tolist() == [4, 5]
    assert product.run({"x": floats(1, 1), "w": weights})["y"].tolist() == [2, 3]
    assert product.run({"x": floats(1), "w": floats(6)})["y"].tolist() == [6]


def test_an_array_that_was_changed_in_place_counts_as_it_is(product: BoundGraph) -> None:
    weights, strided = floats(2, 3), floats(1, 0, 1, 0)[::2]
    product.run({"x": strided, "w": weights})
    weights[:], strided[:] = (4, 5), (10, 10)
    assert product.run({"x": strided, "w": weights})["y"].tolist() == [40, 50]
