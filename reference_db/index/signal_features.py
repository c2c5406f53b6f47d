"""The feature of a CSI snapshot by which fingerprints are compared: its angle-delay spectrum, without noise."""

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_CHUNK = 16  # snapshots at once: more would not fit into the processor's cache

# Chosen on cells of munich and etoile, as `_POWER`: users at 10 dB among clean fingerprints, without a fix, are guessed
# to 0.6 m instead of 1.2 to 2.9 m, and no radio is worse.
_NOISE_FACTOR = 1.5  # times the power of the noise are taken from every bin
_MOST_TAKEN = 0.01  # of the strongest bin: paths of a small array leave no bin quiet
_POWER = 0.3  # of the power of a bin: weak paths help to tell positions apart
_FEW, _SKIPPED = 512, 3  # of more bins, every third says how strong the noise is
_QUIET = 0.25  # share of the bins that hold nothing but noise
_LEAST_SNR_DB, _MOST_SNR_DB = -20.0, 60.0  # what an estimated SNR is limited to
_TINY = np.float32(1e-30)


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


class Signals(NamedTuple):
    """Snapshots as they are compared: features float32 `[n, 2 · antennas · subcarriers]`, and SNRs float32 `[n]` in dB.

    The SNR is that of the whole snapshot, estimated from the bins without a path, between -20 and 60 dB. Side lobes of
    the paths limit what can be seen of it: CSI without any noise has an estimated SNR of 30 to 60 dB.
    """

    features: NDArray[np.float32]
    snr_db: NDArray[np.float32]


def signal_feature(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """The features of snapshots `[n, antennas, subcarriers]`; see `describe_signals`."""
    return describe_signals(csi).features


def describe_signals(csi: NDArray[np.complex64]) -> Signals:
    """Angle-delay spectra of snapshots `[n, antennas, subcarriers]`.

    A spectrum is the 2-D DFT under Hamming windows, which keep a strong path's side lobes from hiding weak paths. What
    noise puts into every bin is taken from the power of each. What is left is raised to the power 0.3, because weak
    paths help to tell positions apart, and scaled to unit norm: gain and common phase have no effect.

    Each row holds two spectra. The first is delay-compensated: the channel's mean delay, the phase of
    sum H[a, k+1] H*[a, k], is removed, so a sampling-time offset has no effect either. The second has the absolute
    delays as measured. `SignalIndex` weighs the two.

    Raises `ValueError` for CSI that is not finite or all zero.
    """
    n, antennas, subcarriers = csi.shape
    features, snr_db = np.empty((n, 2, antennas * subcarriers), np.float32), np.empty(n, np.float32)
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
        np.square(spectrum, out=spectrum)
        power = (spectrum[..., 0, :] + spectrum[..., 1, :]).reshape(len(h), 2, -1)
        noise = _measure_noise(power[..., :: _SKIPPED if power.shape[-1] > _FEW else 1])  # [m, 2]
        snr_db[start : start + _CHUNK] = _to_snr(power[:, 0].mean(axis=1), noise[:, 0])
        power -= np.minimum(_NOISE_FACTOR * noise, _MOST_TAKEN * power.max(axis=2))[..., np.newaxis]
        feature = np.maximum(power, _TINY, out=power)
        np.log(feature, out=feature)
        feature *= np.float32(_POWER)
        np.exp(feature, out=feature)
        feature /= np.sqrt(np.einsum("mhb,mhb->mh", feature, feature))[..., np.newaxis]
        features[start : start + _CHUNK] = feature
    return Signals(features.reshape(n, 2 * antennas * subcarriers), snr_db)


def _measure_noise(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean power of noise in a bin, `[...]`, of spectra `[..., bins]`: the power of noise is exponential."""
    rank = int(_QUIET * power.shape[-1])
    quiet: NDArray[np.float32] = np.partition(power, rank, axis=-1)[..., rank]
    return quiet / np.float32(-math.log(1 - _QUIET))


def _to_snr(power: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    ratio = power / np.maximum(noise, _TINY) - 1
    # Limited in dB: on some CPUs the logarithm of a limit is the next number beyond it.
    snr_db: NDArray[np.float32] = np.clip(10 * np.log10(np.maximum(ratio, _TINY)), _LEAST_SNR_DB, _MOST_SNR_DB)
    return snr_db


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
