"""The ONNX graphs of an artifact, as its manifest describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field

from models.frozen import FrozenModel

Tensor = TypeVar("Tensor")


class TensorSpec(FrozenModel):
    """An input or output of a graph. A name in ``shape`` is a free dimension."""

    name: str = Field(description="Name of the input or output.")
    dtype: str = Field(description="Type of its numbers.")
    shape: list[int | str] = Field(description="Its sizes. A name is a free dimension.")

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape with each free dimension replaced by its size."""
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.shape)


class Graph(FrozenModel):
    """An ONNX file with its inputs and outputs.

    Frames are stored in pools: inputs whose first free dimension is called ``pool``. The graph that encodes frames
    returns each pool as an output (see `written`) and changes only the requested slots, so input and output may share
    memory.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.onnx$", description="Name of the ONNX file in the folder.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the file, hexadecimal.")
    inputs: list[TensorSpec] = Field(description="What it takes.")
    outputs: list[TensorSpec] = Field(description="What it returns.")

    def taken(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs that this graph takes. Some models do not use a coarse position, for example."""
        return {spec.name: inputs[spec.name] for spec in self.inputs}

    @property
    def pools(self) -> list[TensorSpec]:
        return [spec for spec in self.inputs if spec.shape[:1] == ["pool"]]


def written(pool: str) -> str:
    """The name of the graph output that returns a pool."""
    return f"written_{pool}"
