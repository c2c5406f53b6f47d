"""What of a CSI snapshot is alike at places close together."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CHUNK = 256


class Snapshots(Protocol):
    """CSI complex64 `[n, antennas, subcarriers]`: an array, or what makes some rows of it when asked for them."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.complex64]: ...


class Features(Protocol):
    """Features float32 `[n, D]`: an array, or what makes some rows of it when asked for them."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]: ...


class SignalFeatures:
    """`signal_feature` of snapshots that are too many to have all theirs in memory: made for the rows asked for."""

    def __init__(self, csi: Snapshots) -> None:
        self._csi = csi

    def __len__(self) -> int:
        return len(self._csi)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return signal_feature(self._csi[rows])


def signal_feature(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Angle-delay pictures of snapshots `[n, antennas, subcarriers]`: float32 `[n, 2 · antennas · subcarriers]`.

    The picture is the 2-D DFT under Hamming windows (a strong path's side lobes would bury the weak ones), its
    magnitudes to the power of 1/2 (paths behind the strongest one tell places apart as well), of unit norm: blind to
    gain and common phase. Each row holds two of them. In the
    first the channel's mean delay is removed, by the phase of sum H[a, k+1] H*[a, k], so that it is blind to the
    sampling time as well; the second has delays as they were measured. How much each counts is the index's matter.

    Raises `ValueError` for CSI that is not finite or all zero.
    """
    n, antennas, subcarriers = csi.shape
    features = np.empty((n, 2, antennas * subcarriers), np.float32)
    window = (np.hamming(antennas)[:, np.newaxis] * np.hamming(subcarriers)).astype(np.float32)
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        peak = np.abs(csi[rows]).max(axis=(1, 2), keepdims=True)
        if not (np.isfinite(peak) & (peak > 0)).all():
            raise ValueError("csi must be finite and not all zero")
        h = csi[rows] / peak  # first, so that powers of very faint or loud channels are normal numbers
        lag = np.einsum("nas,nas->n", h[..., 1:], h[..., :-1].conj())
        ramp = np.exp(-1j * np.angle(lag)[:, np.newaxis] * np.arange(subcarriers)).astype(np.complex64)
        windowed = h * window
        features[rows, 0] = _picture(windowed * ramp[:, np.newaxis])
        features[rows, 1] = _picture(windowed)
    return features.reshape(n, 2 * antennas * subcarriers)


def _picture(h: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    picture = np.sqrt(np.abs(np.fft.fft2(h))).reshape(len(h), -1)
    unit: NDArray[np.floating] = picture / np.linalg.norm(picture, axis=1, keepdims=True)
    return unit
