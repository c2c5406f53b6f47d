"""CSI at half its size: float16 real pairs and one float32 scale a fingerprint.

The scale is the power of two that puts a snapshot's largest component into [2^14, 2^15), near the top of
float16's range. Gains of any size therefore keep the same relative precision, components down to 2^-28 of
the largest stay normal numbers, and multiplying by the scale is exact: packing what was unpacked gives the
same bytes.
"""

import numpy as np
from numpy.typing import NDArray

_TOP = 15
_SMALLEST = -126  # the exponent of the smallest normal float32


def pack_csi(csi: NDArray[np.complex64]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Packs finite CSI `[n, antennas, subcarriers]` into `([n, antennas, subcarriers, 2], scale [n])`.

    In a snapshot whose largest component lies between 1e-30 and 1e30, a component differs from what
    `unpack_csi` returns by at most 2^-11 of itself plus 2^-38 of the largest; fainter ones lose bits.
    All-zero snapshots get scale 1.
    """
    pairs = np.ascontiguousarray(csi, dtype=np.complex64).view(np.float32).reshape(*csi.shape, 2)
    peak = np.abs(pairs).max(axis=(1, 2, 3), initial=0.0)
    mantissa, exponent = np.frexp(peak)
    # A peak that rounds up to the next power of two counts as that power, or packing would not be idempotent.
    exponent = exponent + (mantissa.astype(np.float16) == 1.0)
    power = np.where(peak > 0, np.maximum(exponent - _TOP, _SMALLEST), 0)
    scale = np.ldexp(np.float32(1), power)
    return (pairs / scale[:, None, None, None]).astype(np.float16), scale


def unpack_csi(packed: NDArray[np.float16], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gives float32 real pairs `[..., antennas, subcarriers, 2]` from packed CSI and its scale `[...]`."""
    pairs: NDArray[np.float32] = np.multiply(packed, scale[..., None, None, None], dtype=np.float32)
    return pairs


def as_complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Views float32 real pairs `[..., 2]` as complex64 `[...]`."""
    return np.ascontiguousarray(pairs, dtype=np.float32).view(np.complex64)[..., 0]
