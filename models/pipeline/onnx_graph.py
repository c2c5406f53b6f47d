"""Writes a torch module as one ONNX file and describes it for the manifest."""

from __future__ import annotations

import hashlib
import inspect
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.artifact import Graph, TensorSpec

OPSET = 23
# torch names every operator of torchvision that it leaves out; no model here has one.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.INT64: "int64"}


def write_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    free: dict[str, dict[int, str]],
    outputs: list[str],
    path: Path,
) -> None:
    """Exports ``module`` to ``path``. ``free`` maps each argument, in order, to its free dimensions by axis."""
    sizes: dict[str, torch.export.Dim] = {}
    shapes = [
        {axis: sizes.setdefault(size, torch.export.Dim(size, min=1, max=1 << 20)) for axis, size in axes.items()}
        for axes in free.values()
    ]
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    variadic = [tuple(shapes[named:])] if named < len(shapes) else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of the exporter itself
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(free),
            output_names=outputs,
            dynamic_shapes=(*shapes[:named], *variadic),
            external_data=False,
            verbose=False,
        )
    program.optimize()
    graph = program.model_proto
    _forget_origin(graph)
    _halve(graph.graph)
    onnx.save(graph, path)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drops the traces of the exporter: they name files of the machine that exports."""
    graphs = [model.graph, *model.functions]
    for part in [model, *graphs, *(node for graph in graphs for node in graph.node), *model.graph.value_info]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _halve(graph: onnx.GraphProto) -> None:
    """Stores weights that `round_weights` rounded in half precision. ONNX Runtime casts them once, at load."""
    for tensor in graph.initializer:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1 and np.array_equal(half := values.astype(np.float16), values):
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))


def describe_graph(path: Path) -> Graph:
    """The manifest entry of an ONNX file."""
    graph = onnx.load(path).graph

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        shape: list[int | str] = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        return TensorSpec(name=value.name, dtype=DTYPES[tensor.elem_type], shape=shape)

    return Graph(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=[spec(value) for value in graph.input],
        outputs=[spec(value) for value in graph.output],
    )
