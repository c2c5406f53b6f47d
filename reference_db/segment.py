"""A segment: fingerprints in their stored form, named by the digest of their bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from reference_db.errors import CorruptSegment
from reference_db.fingerprints import Fingerprints, fingerprint_ids
from reference_db.half_csi import as_complex, pack_csi, unpack_csi
from reference_db.stores.store import Buffer
from reference_db.tensor_buffer import read_tensors

_ARRAYS = {
    "csi": ("float16", 4),
    "scale": ("float32", 1),
    "positions": ("float32", 2),
    "times": ("float64", 1),
    "sigmas": ("float32", 1),
    "ids": ("uint64", 1),
}  # name: dtype, rank

MOST_BYTES = 64 * 2**20  # most CSI in one segment: Redis moves it in well under a second


@dataclass(frozen=True, eq=False)
class Segment:
    """n fingerprints in their stored form.

    `csi` is float16 `[n, antennas, subcarriers, 2]` with `scale` float32 `[n]` (see `half_csi`). `ids` is uint64 `[n]`,
    the fingerprints' content hashes. The other arrays are as in `Fingerprints`. The arrays may be views of a mapped
    file.
    """

    csi: NDArray[np.float16]
    scale: NDArray[np.float32]
    positions: NDArray[np.float32]
    times: NDArray[np.float64]
    sigmas: NDArray[np.float32]
    ids: NDArray[np.uint64]

    @classmethod
    def of(cls, fingerprints: Fingerprints) -> Self:
        csi, scale = pack_csi(fingerprints.csi)
        labels = (fingerprints.positions, fingerprints.times, fingerprints.sigmas)
        return cls(csi, scale, *labels, fingerprint_ids(csi, scale, *labels))

    @classmethod
    def from_buffer(cls, data: Buffer, digest: str) -> Self:
        """Reads a segment without copying. Raises `CorruptSegment` unless `data` is one and hashes to `digest`."""
        if digest_of(data) != digest:
            raise CorruptSegment(f"segment {digest} hashes to {digest_of(data)}")
        try:
            arrays, _ = read_tensors(data)
        except ValueError as error:
            raise CorruptSegment(f"segment {digest} is not a safetensors file: {error}") from error
        if {name: (str(array.dtype), array.ndim) for name, array in arrays.items()} != _ARRAYS:
            raise CorruptSegment(f"segment {digest} must contain exactly these arrays (dtype, rank): {_ARRAYS}")
        if len({len(array) for array in arrays.values()}) != 1:
            raise CorruptSegment(f"segment {digest} contains arrays of different lengths")
        return cls(**arrays)

    def to_bytes(self) -> bytes:
        """The segment as safetensors. The same fingerprints give the same bytes."""
        return save({name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS})

    def rows(self, rows: NDArray[np.bool_] | slice) -> "Segment":
        """A segment of some of the rows: a mask bool `[n]` or a slice."""
        return Segment(*(getattr(self, name)[rows] for name in _ARRAYS))

    def parts(self) -> "list[Segment]":
        """The same fingerprints in segments of at most `MOST_BYTES` each."""
        step = max(1, MOST_BYTES // max(1, self.csi[:1].nbytes))
        return [self.rows(slice(first, first + step)) for first in range(0, len(self), step)]

    def fingerprints(self) -> Fingerprints:
        csi = as_complex(unpack_csi(self.csi, self.scale))
        return Fingerprints(csi, self.positions, self.times, self.sigmas)

    def __len__(self) -> int:
        return len(self.csi)


def join_segments(segments: Sequence[Segment]) -> Segment:
    """One segment of the fingerprints of all these segments, in order. Raises `ValueError` if there is none."""
    return Segment(*(np.concatenate([getattr(segment, name) for segment in segments]) for name in _ARRAYS))


def digest_of(data: Buffer) -> str:
    """The digest that names stored bytes: sha256 in lower-case hexadecimal."""
    return sha256(data).hexdigest()
