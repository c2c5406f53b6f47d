"""A segment: fingerprints as the bytes that are stored, named by their digest."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reference_db.errors import CorruptSegment
from reference_db.fingerprint_id import fingerprint_ids
from reference_db.fingerprints import Fingerprints
from reference_db.half_csi import as_complex, pack_csi, unpack_csi

_ARRAYS = {
    "csi": ("float16", 4),
    "scale": ("float32", 1),
    "positions": ("float32", 2),
    "times": ("float64", 1),
    "sigmas": ("float32", 1),
}  # name: dtype, rank


@dataclass(frozen=True, eq=False)
class Segment:
    """n fingerprints in their stored form.

    `csi` float16 `[n, antennas, subcarriers, 2]` with `scale` float32 `[n]` (see `half_csi`), the other
    arrays as in `Fingerprints`.
    """

    csi: NDArray[np.float16]
    scale: NDArray[np.float32]
    positions: NDArray[np.float32]
    times: NDArray[np.float64]
    sigmas: NDArray[np.float32]

    @classmethod
    def of(cls, fingerprints: Fingerprints) -> Self:
        csi, scale = pack_csi(fingerprints.csi)
        return cls(csi, scale, fingerprints.positions, fingerprints.times, fingerprints.sigmas)

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Self:
        """Reads a segment; raises `CorruptSegment` unless `data` hashes to `digest` and holds the arrays."""
        if digest_of(data) != digest:
            raise CorruptSegment(f"segment {digest} hashes to {digest_of(data)}")
        try:
            arrays = load(data)
        except SafetensorError as error:
            raise CorruptSegment(f"segment {digest}: {error}") from error
        if {name: (str(array.dtype), array.ndim) for name, array in arrays.items()} != _ARRAYS:
            raise CorruptSegment(f"segment {digest} holds other arrays than a segment's")
        if len({len(array) for array in arrays.values()}) != 1:
            raise CorruptSegment(f"segment {digest} holds arrays of different lengths")
        return cls(**arrays)

    def to_bytes(self) -> bytes:
        """The segment as safetensors; the same fingerprints give the same bytes."""
        return save(self.arrays())

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The stored arrays by name."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}

    def fingerprints(self) -> Fingerprints:
        csi = as_complex(unpack_csi(self.csi, self.scale))
        return Fingerprints(csi, self.positions, self.times, self.sigmas)

    @cached_property
    def ids(self) -> NDArray[np.uint64]:
        """The fingerprints' content hashes, uint64 `[n]`."""
        return fingerprint_ids(self.csi, self.scale, self.positions, self.times, self.sigmas)

    def __len__(self) -> int:
        return len(self.csi)


def digest_of(data: bytes) -> str:
    """The name of stored bytes: sha256 in lower-case hexadecimal."""
    return sha256(data).hexdigest()
