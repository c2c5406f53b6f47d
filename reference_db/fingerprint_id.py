"""The name of a fingerprint: a hash of everything it says."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def fingerprint_ids(
    packed_csi: NDArray[np.float16],
    scale: NDArray[np.float32],
    positions: NDArray[np.float32],
    times: NDArray[np.float64],
    sigmas: NDArray[np.float32],
) -> NDArray[np.uint64]:
    """Hashes each row as it is stored: CSI `[n, antennas, subcarriers, 2]`, the others `[n]` or `[n, 2]`.

    Returns uint64 `[n]`. Equal rows get equal ids on every machine and in every version of a cell.
    """
    rows = len(packed_csi)
    csi = np.ascontiguousarray(packed_csi, dtype="<f2").reshape(rows, -1)
    labels = np.column_stack([scale, positions, times, sigmas]).astype("<f8")
    ids = np.empty(rows, dtype=np.uint64)
    for row in range(rows):
        name = blake2b(csi[row].data, digest_size=8)
        name.update(labels[row].data)
        ids[row] = int.from_bytes(name.digest(), "little")
    return ids
