"""The CSI of a request: decoded, and checked against the cell."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import Csi
from reference_db.cell import Cell
from service import errors

_DTYPES: dict[str, np.dtype[np.floating]] = {"complex64": np.dtype("<f4"), "complex32": np.dtype("<f2")}
# Between these mean powers a snapshot's power and the square of it are normal float32 numbers.
_LEAST_POWER, _GREATEST_POWER = 1e-30, 1e18
# Between these, a float32 sum suffices to decide, in spite of its rounding.
_SAFE_LEAST, _SAFE_MOST = 1e-24, 1e17

_HALF = np.finfo(np.float16)
_MOST_AT_THE_LIMIT = 2  # a sender that scales the largest part to the limit reaches it once or twice


def decode_csi(csi: Csi) -> NDArray[np.float32]:
    """Real-imaginary pairs float32 `[antennas, subcarriers, 2]`, contiguous; perhaps a read-only view of `csi.data`.

    Raises `CsiLengthMismatch`, `CsiNotFinite`, `CsiAllZero` or `CsiOutOfRange`.
    """
    dtype, scale = _DTYPES[csi.encoding], csi.scale or 1.0
    antennas, subcarriers = csi.shape
    expected = 2 * antennas * subcarriers * dtype.itemsize
    if len(csi.data) != expected:
        raise errors.CsiLengthMismatch(
            "/csi/data", f"{len(csi.data)} bytes, expected {expected} for {csi.encoding} {csi.shape}"
        )
    received = np.frombuffer(csi.data, dtype)
    if scale == 1 and dtype == np.float32 and _is_plainly_good(received):
        return received.reshape(antennas, subcarriers, 2)  # the common case is not copied
    sent = received.astype(np.float64)
    energy = float(sent @ sent)  # float64 neither overflows nor underflows here
    if not math.isfinite(energy):
        raise errors.CsiNotFinite("/csi/data", "contains NaN or infinity")
    if energy == 0:
        raise errors.CsiAllZero("/csi/data", "is all zero")
    if dtype == np.float16:
        _check_half(received)
    if not _LEAST_POWER <= energy / len(sent) * scale * scale <= _GREATEST_POWER:
        raise errors.CsiOutOfRange(
            "/csi/data", f"mean power outside {_LEAST_POWER:g} to {_GREATEST_POWER:g} after scaling"
        )
    sent *= scale
    return sent.astype(np.float32).reshape(antennas, subcarriers, 2)


def _is_plainly_good(numbers: NDArray[np.floating]) -> bool:
    with np.errstate(over="ignore"):
        return bool(_SAFE_LEAST <= numbers.dot(numbers) / len(numbers) <= _SAFE_MOST)


def _check_half(numbers: NDArray[np.floating]) -> None:
    """Raises `CsiOutOfRange` where float16 has lost what the base station measured: all subnormal, or clipped."""
    sizes = np.abs(numbers)
    if sizes.max() < _HALF.smallest_normal:
        raise errors.CsiOutOfRange("/csi/data", "has only subnormal complex32 numbers: multiply them and set scale")
    if np.count_nonzero(sizes == _HALF.max) > _MOST_AT_THE_LIMIT:
        raise errors.CsiOutOfRange("/csi/data", f"is clipped at {_HALF.max:g}: divide the numbers and set scale")


def check_shape(csi: NDArray[np.float32], cell: Cell, param: str = "/csi/shape") -> None:
    """Raises `CsiShapeMismatch` about `param` unless `csi` `[antennas, subcarriers, 2]` has the shape of the cell."""
    _compare_shapes(list(csi.shape[:2]), cell, param)


def check_declared_shape(body: Any, cell: Cell, param: str = "/csi/shape") -> None:
    """Compares the shape that a parsed `LocateRequest` or `Snapshot` declares, before its CSI is validated or decoded.

    What is no shape is left to validation. Raises `CsiShapeMismatch` about `param`.
    """
    csi = body.get("csi") if isinstance(body, dict) else None
    shape = csi.get("shape") if isinstance(csi, dict) else None
    if isinstance(shape, list) and [type(size) for size in shape] == [int, int]:
        _compare_shapes(shape, cell, param)


def _compare_shapes(shape: list[int], cell: Cell, param: str) -> None:
    expected = [cell.antennas, cell.subcarriers]
    if shape != expected:
        raise errors.CsiShapeMismatch(param, f"is {shape}, but the cell has {expected}")
