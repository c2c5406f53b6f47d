"""A segment: fingerprints as the bytes that are stored, named by their digest."""

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
from reference_db.tensor_buffer import tensors_in

_ARRAYS = {
    "csi": ("float16", 4),
    "scale": ("float32", 1),
    "positions": ("float32", 2),
    "times": ("float64", 1),
    "sigmas": ("float32", 1),
    "ids": ("uint64", 1),
}  # name: dtype, rank

MOST_BYTES = 64 * 2**20  # of CSI in one segment: what Redis moves in well under a second


@dataclass(frozen=True, eq=False)
class Segment:
    """n fingerprints in their stored form.

    `csi` float16 `[n, antennas, subcarriers, 2]` with `scale` float32 `[n]` (see `half_csi`), `ids` uint64 `[n]`, the
    fingerprints' content hashes, the other arrays as in `Fingerprints`. The arrays may lie in a mapped file.
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
        """Reads a segment without copying; raises `CorruptSegment` unless `data` hashes to `digest` and holds it."""
        if digest_of(data) != digest:
            raise CorruptSegment(f"segment {digest} hashes to {digest_of(data)}")
        try:
            arrays, _ = tensors_in(data)
        except ValueError as error:
            raise CorruptSegment(f"segment {digest} is no safetensors file: {error}") from error
        if {name: (str(array.dtype), array.ndim) for name, array in arrays.items()} != _ARRAYS:
            raise CorruptSegment(f"segment {digest} holds other arrays than a segment's")
        if len({len(array) for array in arrays.values()}) != 1:
            raise CorruptSegment(f"segment {digest} holds arrays of different lengths")
        return cls(**arrays)

    def to_bytes(self) -> bytes:
        """The segment as safetensors; the same fingerprints give the same bytes."""
        return save({name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS})

    def rows(self, rows: NDArray[np.bool_] | slice) -> "Segment":
        """Some of the fingerprints."""
        return Segment(*(getattr(self, name)[rows] for name in _ARRAYS))

    def parts(self) -> "list[Segment]":
        """The same fingerprints in segments that are small enough to be moved as one value."""
        step = max(1, MOST_BYTES // max(1, self.csi[:1].nbytes))
        return [self.rows(slice(first, first + step)) for first in range(0, len(self), step)]

    def fingerprints(self) -> Fingerprints:
        csi = as_complex(unpack_csi(self.csi, self.scale))
        return Fingerprints(csi, self.positions, self.times, self.sigmas)

    def __len__(self) -> int:
        return len(self.csi)


def join_segments(segments: Sequence[Segment]) -> Segment:
    """The fingerprints of all of these, one or more, in order."""
    return Segment(*(np.concatenate([getattr(segment, name) for segment in segments]) for name in _ARRAYS))


def digest_of(data: Buffer) -> str:
    """The name of stored bytes: sha256 in lower-case hexadecimal."""
    return sha256(data).hexdigest()
