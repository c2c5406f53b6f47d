"""Weights of an ONNX graph in 8 bits: a fifth of the bytes to read, where reading them is what a run costs.

ONNX Runtime's operator `MatMulNBits` keeps weights in blocks, each with a scale, and rounds its input to 8 bits in the
same blocks before it multiplies. Its CPU kernels need AVX2 or better, or Arm's dot product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 16  # weights with a scale of their own: half the rounding error of 32, and 2 % slower
FEWEST_WEIGHTS = 1 << 12  # smaller maps stay: they cost no time
_DOMAIN = "com.microsoft"
_INTEGERS = 4  # the `accuracy_level` at which inputs are rounded to 8 bits; with all others the CPU is 4 times slower
_ZERO = 128  # the byte that stands for 0

_Floats = NDArray[np.float32]


def quantise(model: onnx.ModelProto, kept: Callable[[_Floats], bool]) -> onnx.ModelProto:
    """A copy whose linear maps have weights in 8 bits, but for small ones and those whose weights [out, in] are `kept`.

    The maps are `Gemm` and `MatMul` with constant weights, as torch exports them.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    constants = _Constants(graph)
    nodes, added = [], list[onnx.TensorProto]()
    for node in graph.node:
        weights = _weights(node, constants)
        if weights is None or weights.size < FEWEST_WEIGHTS or kept(weights):
            nodes.append(node)
            continue
        rounded, scales = round_weights(weights)
        name = f"{node.name or node.output[0]}_weights"
        added += [numpy_helper.from_array(rounded, name), numpy_helper.from_array(scales, f"{name}_scales")]
        inputs = [node.input[0], name, f"{name}_scales"]
        if len(node.input) > 2:
            inputs += ["", "", node.input[2]]  # neither zero points nor an order of the inputs; the bias
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                inputs,
                node.output,
                node.name,
                domain=_DOMAIN,
                K=weights.shape[1],
                N=weights.shape[0],
                bits=8,
                block_size=BLOCK,
                accuracy_level=_INTEGERS,
            )
        )
    _replace(graph, nodes, added)
    if all(opset.domain != _DOMAIN for opset in changed.opset_import):
        changed.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return changed


def round_weights(weights: _Floats) -> tuple[NDArray[np.uint8], _Floats]:
    """Weights [out, in] as bytes [out, blocks, BLOCK] around 128, and what one step is worth: [out, blocks]."""
    rows, columns = weights.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = weights
    padded = padded.reshape(rows, blocks, BLOCK)
    scales = np.abs(padded).max(axis=-1) / np.float32(_ZERO - 1)
    steps = np.rint(padded / np.where(scales > 0, scales, 1)[..., None])
    return (steps + _ZERO).astype(np.uint8), scales


class _Constants:
    """The constant tensors of a graph: initialisers, and what casts and concatenations make of them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._made = {node.output[0]: node for node in graph.node if node.op_type in ("Cast", "Concat")}

    def find(self, name: str) -> _Floats | None:
        """The tensor in single precision; None if it depends on an input of the graph."""
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name]).astype(np.float32)
        if (node := self._made.get(name)) is None:
            return None
        parts = [part for one in node.input if (part := self.find(one)) is not None]
        if len(parts) < len(node.input):
            return None
        return parts[0] if node.op_type == "Cast" else np.concatenate(parts, int(_attributes(node)["axis"]))


def _weights(node: onnx.NodeProto, constants: _Constants) -> _Floats | None:
    """The weights [out, in] of a linear map; None for any other node."""
    if node.op_type not in ("Gemm", "MatMul") or (weights := constants.find(node.input[1])) is None:
        return None
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | _attributes(node)
    if weights.ndim != 2 or attributes["transA"] or (attributes["alpha"], attributes["beta"]) != (1.0, 1.0):
        return None
    return weights if attributes["transB"] else weights.T


def _attributes(node: onnx.NodeProto) -> dict[str, int | float]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], added: list[onnx.TensorProto]) -> None:
    """Sets the nodes of a graph, without those that nothing reads, and its initialisers likewise."""
    read, used = {output.name for output in graph.output}, list[onnx.NodeProto]()
    for node in reversed(nodes):
        if read.intersection(node.output):
            used.append(node)
            read.update(node.input)
    stored = [tensor for tensor in (*graph.initializer, *added) if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(used))
    graph.initializer.extend(stored)
