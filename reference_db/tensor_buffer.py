"""Safetensors without copies in memory: arrays read are views of the buffer. The official library copies them."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reference_db.stores.store import Buffer
from reference_db.unique_names import refuse_repeated_names

_DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "<u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "BOOL": "?",
}  # by their names in safetensors


def read_tensors(data: Buffer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Returns the arrays by name, as views of `data`, and the metadata.

    Raises `ValueError` if `data` is not safetensors, or if an array does not fit into the buffer.
    """
    length = int.from_bytes(data[:8], "little")
    body = memoryview(data)[8 + length :]
    try:
        header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=refuse_repeated_names)
        metadata = header.pop("__metadata__", {})
        return {name: _array(name, entry, body) for name, entry in header.items()}, dict(metadata)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not safetensors: {error!r}") from error


def write_tensors(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays by name. `read_tensors` returns the same arrays, aligned for their types in a mapped file."""
    names = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
    ordered = sorted(arrays.items(), key=lambda one: one[1].itemsize, reverse=True)
    header, end = {}, 0
    for name, array in ordered:
        first, end = end, end + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays must start at a multiple of 8 bytes
    file.write(len(text).to_bytes(8, "little") + text)
    for _, array in ordered:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _array(name: str, entry: dict[str, Any], body: memoryview) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
    if not 0 <= first <= end <= len(body) or end - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the offsets of {name} do not match its shape and the file")
    return np.frombuffer(body[first:end], dtype).reshape(shape)
