"""The feature of a CSI snapshot by which fingerprints are compared: its angle-delay spectrum."""

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CHUNK = 16  # snapshots at once: more would not fit into the processor's cache


class Snapshots(Protocol):
    """CSI complex64 `[n, antennas, subcarriers]`: an array, or an object that computes the rows it is indexed by."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.complex64]: ...


class Features(Protocol):
    """Features float32 `[n, D]`: an array, or an object that computes the rows it is indexed by."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]: ...


class SignalFeatures:
    """`signal_feature` of more snapshots than fit into memory, computed for the rows it is indexed by."""

    def __init__(self, csi: Snapshots) -> None:
        self._csi = csi

    def __len__(self) -> int:
        return len(self._csi)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return signal_feature(self._csi[rows])


def signal_feature(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Angle-delay spectra of snapshots `[n, antennas, subcarriers]`: float32 `[n, 2 · antennas · subcarriers]`.

    A spectrum is the 2-D DFT under Hamming windows, which keep a strong path's side lobes from hiding weak paths. Its
    magnitudes are raised to the power 1/2, because weak paths help to tell positions apart, and scaled to unit norm:
    gain and common phase have no effect.

    Each row holds two spectra. The first is delay-compensated: the channel's mean delay, the phase of
    sum H[a, k+1] H*[a, k], is removed, so a sampling-time offset has no effect either. The second has the absolute
    delays as measured. `SignalIndex` weighs the two.

    Raises `ValueError` for CSI that is not finite or all zero.
    """
    n, antennas, subcarriers = csi.shape
    features = np.empty((n, 2, antennas * subcarriers), np.float32)
    over_antennas, over_subcarriers = _transforms(antennas, subcarriers)
    for start in range(0, n, _CHUNK):
        pairs = _pairs(csi[start : start + _CHUNK])  # [m, antennas, subcarriers, 2]
        peak = np.abs(pairs).max(axis=(1, 2, 3), keepdims=True)
        if not (np.isfinite(peak) & (peak > 0)).all():
            raise ValueError("csi must be finite and not all zero")
        # Scaled first, so that the power of a very weak or strong channel is a normal float32.
        pairs = pairs / peak
        h = pairs.view(np.complex64)[..., 0]
        lag = np.einsum("mas,mas->m", h[..., 1:], h[..., :-1].conj())
        ramp = np.exp(-1j * np.angle(lag)[:, np.newaxis] * np.arange(subcarriers)).astype(np.complex64)
        parts = (over_antennas @ pairs.reshape(len(h), antennas, -1)).view(np.complex64)
        both = np.empty((len(h), 2, antennas, subcarriers), np.complex64)
        np.add(parts[:, :antennas], np.complex64(1j) * parts[:, antennas:], out=both[:, 1])
        np.multiply(both[:, 1], ramp[:, np.newaxis], out=both[:, 0])
        spectrum = (both.view(np.float32) @ over_subcarriers).reshape(*both.shape[:3], 2, subcarriers)
        magnitude = np.sqrt(np.square(spectrum[..., 0, :]) + np.square(spectrum[..., 1, :])).reshape(len(h), 2, -1)
        # The squares of the feature are these magnitudes, so its squared norm is their sum.
        features[start : start + _CHUNK] = np.sqrt(magnitude / magnitude.sum(axis=-1, keepdims=True))
    return features.reshape(n, 2 * antennas * subcarriers)


@lru_cache
def _transforms(antennas: int, subcarriers: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The windowed DFTs as real matrices: for so few samples, two products take half the time of FFTs.

    The first, `[2 · antennas, antennas]`, stacks the real and the imaginary part of the DFT over antennas. The second,
    `[2 · subcarriers, 2 · subcarriers]`, maps interleaved (re, im) pairs to all real parts, then all imaginary parts.
    """
    over_antennas, over_subcarriers = (
        np.fft.fft(np.diag(np.hamming(size)), axis=0) for size in (antennas, subcarriers)
    )
    re, im = over_subcarriers.real.T, over_subcarriers.imag.T
    pairs = np.stack([np.concatenate([re, im], axis=1), np.concatenate([-im, re], axis=1)], axis=1)
    first = np.concatenate([over_antennas.real, over_antennas.imag])
    return first.astype(np.float32), pairs.reshape(2 * subcarriers, 2 * subcarriers).astype(np.float32)


def _pairs(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Complex `[...]` as real pairs `[..., 2]`, without a copy where possible."""
    return np.ascontiguousarray(csi, np.complex64)[..., np.newaxis].view(np.float32)
