"""CSI at half its size: float16 real pairs and one float32 scale a fingerprint.

The scale is the power of two that puts a snapshot's largest component into [2^14, 2^15), near the top of
float16's range. Gains of any size therefore keep the same relative precision, components down to 2^-28 of
the largest stay normal numbers, and multiplying by the scale is exact: packing what was unpacked gives the
same bytes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1024  # snapshots
_TOP = 15
_SMALLEST = -126  # the exponent of the smallest normal float32


def pack_csi(csi: NDArray[np.complex64]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Packs finite CSI `[n, antennas, subcarriers]` into `([n, antennas, subcarriers, 2], scale [n])`.

    In a snapshot whose largest component lies between 1e-30 and 1e30, a component differs from what
    `unpack_csi` returns by at most 2^-11 of itself plus 2^-38 of the largest; fainter ones lose bits.
    All-zero snapshots get scale 1.
    """
    pairs = np.ascontiguousarray(csi, dtype=np.complex64).view(np.float32).reshape(*csi.shape, 2)
    peak = largest_components(csi)
    mantissa, exponent = np.frexp(peak)
    # A peak that rounds up to the next power of two counts as that power, or packing would not be idempotent.
    exponent = exponent + (mantissa.astype(np.float16) == 1.0)
    power = np.where(peak > 0, np.maximum(exponent - _TOP, _SMALLEST), 0)
    scale = np.ldexp(np.float32(1), power)
    packed = np.empty(pairs.shape, np.float16)
    for rows in _parts(len(csi)):  # of a large cell, no second copy at full size
        packed[rows] = pairs[rows] / scale[rows, None, None, None]
    return packed, scale


def largest_components(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """The largest real or imaginary part, by amount, of each snapshot of CSI `[n, antennas, subcarriers]`: `[n]`.

    NaN where a snapshot holds one.
    """
    pairs = np.ascontiguousarray(csi, dtype=np.complex64).view(np.float32)
    peak = np.empty(len(csi), np.float32)
    for rows in _parts(len(csi)):
        peak[rows] = np.abs(pairs[rows]).max(axis=(1, 2), initial=0.0)
    return peak


def unpack_csi(packed: NDArray[np.float16], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gives float32 real pairs `[..., antennas, subcarriers, 2]` from packed CSI and its scale `[...]`."""
    pairs: NDArray[np.float32] = np.multiply(packed, scale[..., None, None, None], dtype=np.float32)
    return pairs


def as_complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Views float32 real pairs `[..., 2]` as complex64 `[...]`."""
    return np.ascontiguousarray(pairs, dtype=np.float32).view(np.complex64)[..., 0]


def _parts(n: int) -> Iterator[slice]:
    yield from (slice(first, first + _AT_ONCE) for first in range(0, n, _AT_ONCE))


class CsiPart(NamedTuple):
    """Packed CSI `[m, antennas, subcarriers, 2]`, its scale `[m]`, and which of the rows are meant (None: all)."""

    packed: NDArray[np.float16]
    scale: NDArray[np.float32]
    rows: NDArray[np.int64] | None


class PackedCsi:
    """The CSI of parts that lie apart, unpacked some rows at a time."""

    def __init__(self, parts: Sequence[CsiPart]) -> None:
        self._packed = np.concatenate([p.packed if p.rows is None else p.packed[p.rows] for p in parts])
        self._scale = np.concatenate([p.scale if p.rows is None else p.scale[p.rows] for p in parts])

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
        return as_complex(self.pairs(rows))

    def pairs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return unpack_csi(self._packed[rows], self._scale[rows])
