"""CSI at half its size: float16 real pairs and one float32 scale per fingerprint.

The scale is the power of two that brings the largest component of a snapshot into [2^14, 2^15), near the top of the
range of float16. Strong and weak channels therefore have the same relative precision, and components down to 2^-28 of
the largest stay normal numbers. Multiplication by the scale is exact, so packing unpacked CSI gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1024  # snapshots per chunk
_TOP = 15
_SMALLEST = -126  # the exponent of the smallest normal float32


def pack_csi(csi: NDArray[np.complex64]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Packs finite CSI `[n, antennas, subcarriers]` into float16 `[n, antennas, subcarriers, 2]` and a scale `[n]`.

    If the largest component of a snapshot lies between 1e-30 and 1e30, `unpack_csi` returns each component with an
    error of at most 2^-11 of itself plus 2^-38 of the largest component. Weaker snapshots lose precision. An all-zero
    snapshot gets scale 1.
    """
    pairs = np.ascontiguousarray(csi, dtype=np.complex64).view(np.float32).reshape(*csi.shape, 2)
    peak = largest_components(csi)
    mantissa, exponent = np.frexp(peak)
    # A peak that float16 rounds up to the next power of two gets that exponent; else packing would not be idempotent.
    exponent = exponent + (mantissa.astype(np.float16) == 1.0)
    power = np.where(peak > 0, np.maximum(exponent - _TOP, _SMALLEST), 0)
    scale = np.ldexp(np.float32(1), power)
    packed = np.empty(pairs.shape, np.float16)
    for rows in _parts(len(csi)):  # in chunks, to avoid a second full-size copy of a large cell
        packed[rows] = pairs[rows] / scale[rows, None, None, None]
    return packed, scale


def largest_components(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """The largest absolute real or imaginary part of each snapshot of CSI `[n, antennas, subcarriers]`: float32 `[n]`.

    NaN if the snapshot contains NaN.
    """
    pairs = np.ascontiguousarray(csi, dtype=np.complex64).view(np.float32)
    peak = np.empty(len(csi), np.float32)
    for rows in _parts(len(csi)):
        peak[rows] = np.abs(pairs[rows]).max(axis=(1, 2), initial=0.0)
    return peak


def unpack_csi(packed: NDArray[np.float16], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unpacks CSI float16 `[..., antennas, subcarriers, 2]` with scale `[...]` into float32 pairs of the same shape."""
    pairs: NDArray[np.float32] = np.multiply(packed, scale[..., None, None, None], dtype=np.float32)
    return pairs


def as_complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Views float32 real pairs `[..., 2]` as complex64 `[...]`."""
    return np.ascontiguousarray(pairs, dtype=np.float32).view(np.complex64)[..., 0]


def _parts(n: int) -> Iterator[slice]:
    yield from (slice(first, first + _AT_ONCE) for first in range(0, n, _AT_ONCE))


@dataclass(frozen=True, eq=False)
class CsiPart:
    """Packed CSI `[m, antennas, subcarriers, 2]` with its scale `[m]`. The CSI may be a view of a mapped file.

    `rows`, int64 `[r]`, selects the rows in use; None means all.
    """

    packed: NDArray[np.float16]
    scale: NDArray[np.float32]
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.packed) if self.rows is None else len(self.rows)


class PackedCsi:
    """The packed CSI of one or more parts in sequence. Unpacks the rows it is indexed by and copies no other CSI."""

    def __init__(self, parts: Sequence[CsiPart]) -> None:
        self._parts = tuple(parts)
        # Plain array views, because memmap objects are slow to index.
        self._packed = [np.asarray(part.packed) for part in parts]
        scales = [part.scale if part.rows is None else part.scale[part.rows] for part in parts]
        self._scale = np.asarray(scales[0]) if len(scales) == 1 else np.concatenate(scales)
        self._first = np.cumsum([0, *map(len, parts)])[:-1]

    def __len__(self) -> int:
        return len(self._scale)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
        return as_complex(self.pairs(rows))

    def pairs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The CSI of rows `[...]` as float32 real pairs `[..., antennas, subcarriers, 2]`.

        Raises `IndexError` for a row out of range.
        """
        if rows.size and rows.astype(np.uint64).max() >= len(self):  # negative rows become large
            raise IndexError(f"rows {rows.min()} to {rows.max()} are out of range: there are {len(self)}")
        if len(self._parts) == 1:
            packed = self._packed[0][self._stored(0, rows)]
        else:
            packed = np.empty((*rows.shape, *self._packed[0].shape[1:]), np.float16)
            owners = np.searchsorted(self._first, rows, side="right") - 1
            for part in np.flatnonzero(np.bincount(owners.ravel())).tolist():
                own = owners == part
                packed[own] = self._packed[part][self._stored(part, rows[own] - self._first[part])]
        return unpack_csi(packed, self._scale[rows])

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory in use, without mapped files, which the operating system can evict."""
        arrays: list[NDArray[np.generic]] = [self._scale]
        for part in self._parts:
            arrays += [part.packed] if part.rows is None else [part.packed, part.scale, part.rows]
        return sum(array.nbytes for array in arrays if not _is_mapped(array))

    def _stored(self, part: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        kept = self._parts[part].rows
        return rows if kept is None else kept[rows]


def _is_mapped(array: NDArray[np.generic]) -> bool:
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap)
