"""Time of arrival of the first path by a matched filter with a leading edge, the classical rival of LWLM's ToA.

The delay spectrum of a snapshot is the windowed matched filter over its subcarriers, summed over the antennas without
their phases. The first path is where the spectrum first rises above a threshold. The known shape of the filter's
pulse leads from that crossing to the middle of the pulse. The pulse's height is that of the first peak after the
crossing, so weak first paths are not placed late.

Window, threshold and margin were chosen on the validation streets of LWLM, one choice for all bandwidths and arrays.
Delays are ambiguous beyond ``subcarriers / bandwidth``. The last two units of 1 / bandwidth count as arrivals before
time zero: a pulse begins that early. More would take the wrapped late echoes of a wide band for first paths.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import kaiser

WINDOW_BETA = 4.0  # of the Kaiser window over the subcarriers: side lobes below the threshold
THRESHOLD_DB = 18.0  # of the first path, below the strongest
NOISE_MARGIN = 5.0  # of the threshold over the lower quartile of the spectrum, which is noise
OVERSAMPLING = 16  # bins of the delay spectrum per 1 / bandwidth
EARLY = 2  # arrivals before time zero, in units of 1 / bandwidth

_CHUNK = 64  # snapshots at once
_PULSE_OVERSAMPLING = 128
_PULSE_DB = np.arange(0.0, 60.0, 0.5)


def find_first_arrival(
    csi: NDArray[np.complex64], bandwidth: float, threshold_db: float = THRESHOLD_DB
) -> NDArray[np.float64]:
    """Delay of the first path of snapshots [n, antennas, subcarriers] over a bandwidth in hertz: float64 [n], seconds.

    It is negative for arrivals before time zero. The first path may be ``threshold_db`` weaker than the strongest.

    Raises:
        ValueError: a snapshot is all zero or not finite.
    """
    delay = np.empty(len(csi))
    for start in range(0, len(csi), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        delay[chunk] = _find_leading_edge(delay_spectrum(csi[chunk]), csi.shape[-1], threshold_db)
    return delay / bandwidth


def delay_spectrum(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Power over delay of snapshots [n, antennas, subcarriers]: float32 [n, OVERSAMPLING · subcarriers].

    The strongest bin of each snapshot is 1. Bin i is the delay ``i / (OVERSAMPLING · bandwidth)``.
    """
    if not (np.isfinite(csi).all() and csi.any(axis=(1, 2)).all()):
        raise ValueError("csi must be finite and not all zero")
    window = subcarrier_window(csi.shape[-1])
    spectrum = np.fft.ifft(csi * window, OVERSAMPLING * csi.shape[-1], axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
    return np.asarray(power / power.max(axis=1, keepdims=True), np.float32)


def subcarrier_window(subcarriers: int) -> NDArray[np.float32]:
    """The window over the subcarriers, float32 [subcarriers]."""
    return np.asarray(kaiser(subcarriers, WINDOW_BETA), np.float32)


def _find_leading_edge(power: NDArray[np.float32], subcarriers: int, threshold_db: float) -> NDArray[np.float64]:
    """Delay of the first path in delay spectra [n, bins], float64 [n] in units of 1 / bandwidth."""
    n, bins = power.shape
    early = EARLY * OVERSAMPLING
    power = np.roll(power, early, axis=1)
    noise = np.quantile(power, 0.25, axis=1)
    threshold = np.clip(NOISE_MARGIN * noise, 10 ** (-threshold_db / 10), 0.999)
    above = power >= threshold[:, None]
    crossing = np.maximum(above.argmax(axis=1), 1)
    row = np.arange(n)
    before, after = np.log(np.maximum(power[row, crossing - 1], 1e-30)), np.log(power[row, crossing])
    rise = np.clip((np.log(threshold) - before) / np.maximum(after - before, 1e-12), 0.0, 1.0)

    falls = (power >= np.roll(power, -1, axis=1)) & (np.arange(bins) >= crossing[:, None])
    height_db = 10 * np.log10(np.maximum(power[row, falls.argmax(axis=1)] / threshold, 1.0))
    lead = np.interp(height_db, _PULSE_DB, _pulse_lead(subcarriers))
    return (crossing - 1 + rise - early) / OVERSAMPLING + lead


@cache
def _pulse_lead(subcarriers: int) -> NDArray[np.float64]:
    """How far before its middle the pulse is each of `_PULSE_DB` below its height, in units of 1 / bandwidth."""
    pulse = np.abs(np.fft.ifft(subcarrier_window(subcarriers), _PULSE_OVERSAMPLING * subcarriers)) ** 2
    below = pulse < pulse[0] * 10 ** (-_PULSE_DB[:, None] / 10)
    return below.argmax(axis=1) / _PULSE_OVERSAMPLING
