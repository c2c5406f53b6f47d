"""Tells whether CSI can be a channel's frequency response, with its subcarriers in the order of their frequencies.

A frequency response changes little from a subcarrier to the next, and has power on all of them.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Response = Literal["good", "magnitudes only", "phases only", "impulse response", "order of an FFT"]

# In traced and synthetic surveys of all kinds of radios (`tests/reference_db/test_frequency_response.py`), the step in
# mid-band is 0.6 to 1.1 times the largest other one, and that from the last subcarrier to the first 2.1 to 110 times.
# In the order of an FFT it is the other way round; the smallest numbers are those of CSI at 3 dB.
_FEWEST_SUBCARRIERS = 8
_JUMP, _CLEAR_JUMP, _SEAM = 1.7, 4.0, 1.3
# The share of subcarriers that hold the power is 0.57 to 1.0, of delays 0.01 to 0.43.
_NARROW, _WIDE = 0.35, 0.5
_EQUAL = 1e-3


class ResponseVerdict(NamedTuple):
    """`clear`: no honest survey of any radio looks like this."""

    response: Response
    clear: bool = False


def judge_response(csi: NDArray[np.complex64]) -> ResponseVerdict:
    """Judges a sample of a survey: CSI complex64 `[n, antennas, subcarriers]`, finite and nowhere all zero."""
    _, antennas, subcarriers = csi.shape
    if antennas * subcarriers < 2:
        return ResponseVerdict("good")
    if not csi.imag.any():
        return ResponseVerdict("magnitudes only", clear=True)
    magnitudes = np.abs(csi).astype(np.float64)
    if magnitudes.std() < _EQUAL * magnitudes.mean():
        return ResponseVerdict("phases only")
    if subcarriers < _FEWEST_SUBCARRIERS:
        return ResponseVerdict("good")
    if _share_with_power(csi) < _NARROW and _share_with_power(np.fft.fft(csi, axis=2)) > _WIDE:
        return ResponseVerdict("impulse response")
    jump, seam = _compare_steps(csi)
    if jump >= _JUMP and seam <= _SEAM:
        return ResponseVerdict("order of an FFT", clear=jump >= _CLEAR_JUMP)
    return ResponseVerdict("good")


def _share_with_power(csi: NDArray[np.complexfloating[Any, Any]]) -> float:
    """The median share of the last axis over which a snapshot's power spreads: 1/k if one of k places has it all."""
    power = np.mean(np.abs(csi.astype(np.complex128)) ** 2, axis=1)
    power /= power.sum(axis=1, keepdims=True)
    return float(np.median(1 / (power.shape[1] * (power**2).sum(axis=1))))


def _compare_steps(csi: NDArray[np.complex64]) -> tuple[float, float]:
    """The step in mid-band, and that from the last subcarrier to the first, as multiples of the largest other step.

    A step is 1 - rho, with rho the correlation of two neighbours over snapshots and antennas, after each snapshot's
    mean delay is removed.
    """
    subcarriers = csi.shape[2]
    level = np.sqrt(np.mean(np.abs(csi.astype(np.complex128)) ** 2, axis=(1, 2), keepdims=True))
    scaled = csi / level
    following = np.roll(scaled, -1, axis=2)
    products = np.sum(following * scaled.conj(), axis=1)
    products *= np.exp(-1j * np.angle(products[:, :-1].sum(axis=1, keepdims=True)))
    powers = np.sum(np.abs(following) ** 2 + np.abs(scaled) ** 2, axis=1)
    steps = 1 - 2 * products.real.sum(axis=0) / np.maximum(powers.sum(axis=0), 1e-30)
    inner, seam = steps[:-1], float(steps[-1])
    best = 0.0, np.inf
    for middle in {subcarriers // 2, (subcarriers + 1) // 2}:  # an odd number has its carrier on either side
        others = max(float(np.delete(inner, middle - 1).max()), 1e-6)
        best = max(best, (float(inner[middle - 1]) / others, seam / others))
    return best
