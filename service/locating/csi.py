"""CSI from the wire."""

import math

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import Csi
from service import errors

_DTYPES: dict[str, np.dtype[np.floating]] = {"complex64": np.dtype("<f4"), "complex32": np.dtype("<f2")}
# Between these mean powers the power of a snapshot, and its square, are normal float32.
_FAINTEST_POWER, _LOUDEST_POWER = 1e-30, 1e18
# And between these there is no doubt, however a sum of float32 is rounded.
_SAFE_LEAST, _SAFE_MOST = 1e-24, 1e17


def decode_csi(csi: Csi) -> NDArray[np.float32]:
    """Real-imaginary pairs float32 `[antennas, subcarriers, 2]`, contiguous, maybe a read-only view of the data sent.

    Raises `CsiLengthMismatch`, `CsiNotFinite`, `CsiAllZero` or `CsiOutOfRange`.
    """
    dtype = _DTYPES[csi.encoding]
    antennas, subcarriers = csi.shape
    expected = 2 * antennas * subcarriers * dtype.itemsize
    if len(csi.data) != expected:
        raise errors.CsiLengthMismatch(
            "/csi/data", f"{len(csi.data)} bytes, {expected} expected of {csi.encoding} {csi.shape}"
        )
    received = np.frombuffer(csi.data, dtype)
    if csi.scale == 1 and dtype == np.float32 and _is_plainly_good(received):
        return received.reshape(antennas, subcarriers, 2)  # as nearly all CSI comes: not even copied
    sent = received.astype(np.float64)
    energy = float(sent @ sent)  # no float32 overflows or vanishes in float64: one product tells good CSI from bad
    if not math.isfinite(energy):
        raise errors.CsiNotFinite("/csi/data", "holds NaN or infinity")
    if energy == 0:
        raise errors.CsiAllZero("/csi/data", "is all zero")
    if not _FAINTEST_POWER <= energy / len(sent) * csi.scale * csi.scale <= _LOUDEST_POWER:
        raise errors.CsiOutOfRange(
            "/csi/data", f"mean power outside {_FAINTEST_POWER:g} to {_LOUDEST_POWER:g} after scaling"
        )
    sent *= csi.scale
    return sent.astype(np.float32).reshape(antennas, subcarriers, 2)


def _is_plainly_good(numbers: NDArray[np.floating]) -> bool:
    with np.errstate(over="ignore"):
        return bool(_SAFE_LEAST <= numbers.dot(numbers) / len(numbers) <= _SAFE_MOST)
