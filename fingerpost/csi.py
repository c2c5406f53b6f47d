"""CSI as programs hold it, and as it goes over the wire."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fingerpost.wire import Csi

SNAPSHOT = "[antennas, subcarriers]"

_ComplexArray = NDArray[np.complexfloating[Any, Any]]


def encode_csi(csi: ArrayLike) -> Csi:
    """One snapshot, complex `[antennas, subcarriers]`, for a request. Raises as `to_complex64`."""
    array = to_complex64(csi, SNAPSHOT)
    return Csi(encoding="complex64", shape=list(array.shape), data=array.astype("<c8", copy=False).tobytes())


def to_complex64(csi: ArrayLike, dimensions: str) -> NDArray[np.complex64]:
    """CSI as a contiguous array. `csi` is whatever NumPy makes a complex array of: lists, CPU tensors, xarray.

    `dimensions` are those that it must have, such as `[antennas, subcarriers]`. Raises `ValueError` for other
    dimensions, for real numbers, for masked values, and for numbers that are not finite or do not fit into complex64.
    """
    refuse_masked("csi", csi)
    try:
        array = np.asarray(csi)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise ValueError(f"csi is not an array: {error}") from error
    if array.dtype.kind in "biuf":
        raise ValueError(
            f"csi is real-valued ({array.dtype} {_shape(array)}): it must be complex, {dimensions}; "
            "fingerpost.join_pairs makes complex numbers of real-imaginary pairs [..., 2]"
        )
    if array.dtype.kind != "c":
        raise ValueError(f"csi must hold complex numbers, not {array.dtype}")
    if array.ndim != dimensions.count(",") + 1 or array.size == 0:
        raise ValueError(f"csi must have the dimensions {dimensions}, not the shape {_shape(array)}")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, np.complex64)
    if not np.isfinite(numbers).all():
        place = [int(one) for one in np.argwhere(~np.isfinite(numbers))[0]]
        fault = "has a number too large for complex64" if np.isfinite(array).all() else "has NaN or infinity"
        raise ValueError(f"csi {fault} at {place} of {dimensions}")
    return numbers


def refuse_masked(name: str, values: ArrayLike) -> None:
    """Raises `ValueError` for masked values, which would be sent as the numbers under the mask."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values: leave these rows out")


def join_pairs(pairs: ArrayLike) -> _ComplexArray:
    """Complex numbers from real-imaginary pairs `[..., 2]`. Raises `ValueError` for any other shape or type."""
    refuse_masked("pairs", pairs)
    array = np.asarray(pairs)
    if array.dtype.kind not in "iuf" or array.ndim == 0 or array.shape[-1] != 2:
        raise ValueError(f"pairs must be real numbers [..., 2], not {array.dtype} {_shape(array)}")
    joined: _ComplexArray = array[..., 0] + 1j * array[..., 1]
    return joined


def _shape(array: NDArray[Any]) -> list[int]:
    return list(array.shape)
