"""Reads safetensors without copying: the arrays are views of the buffer. The official reader copies them."""

import json
import math
from typing import Any

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


def _array(name: str, entry: dict[str, Any], body: memoryview) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
    if not 0 <= first <= end <= len(body) or end - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the offsets of {name} do not match its shape and the file")
    return np.frombuffer(body[first:end], dtype).reshape(shape)
