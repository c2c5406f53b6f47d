"""The CSI of a request: decoded, and checked against the cell."""

import math

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import Csi
from reference_db.cell import Cell
from service import errors

_DTYPES: dict[str, np.dtype[np.floating]] = {"complex64": np.dtype("<f4"), "complex32": np.dtype("<f2")}
# Between these mean powers a snapshot's power and the square of it are normal float32 numbers.
_LEAST_POWER, _GREATEST_POWER = 1e-30, 1e18
# Between these, a float32 sum suffices to decide, whatever its rounding.
_SAFE_LEAST, _SAFE_MOST = 1e-24, 1e17


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
    if not _LEAST_POWER <= energy / len(sent) * scale * scale <= _GREATEST_POWER:
        raise errors.CsiOutOfRange(
            "/csi/data", f"mean power outside {_LEAST_POWER:g} to {_GREATEST_POWER:g} after scaling"
        )
    sent *= scale
    return sent.astype(np.float32).reshape(antennas, subcarriers, 2)


def _is_plainly_good(numbers: NDArray[np.floating]) -> bool:
    with np.errstate(over="ignore"):
        return bool(_SAFE_LEAST <= numbers.dot(numbers) / len(numbers) <= _SAFE_MOST)


def check_shape(csi: NDArray[np.float32], cell: Cell, param: str = "/csi/shape") -> None:
    """Raises `CsiShapeMismatch` about `param` unless `csi` `[antennas, subcarriers, 2]` has the shape of the cell."""
    expected = (cell.antennas, cell.subcarriers)
    if csi.shape[:2] != expected:
        raise errors.CsiShapeMismatch(param, f"is {list(csi.shape[:2])}, but the cell has {list(expected)}")
