"""Channels whose paths are known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.radio.channel import subcarrier_offsets

MakeChannel = Callable[..., NDArray[np.complex64]]


def make_channel_of(
    gain: list[complex], delay: list[float], cone: list[float], antennas: int, subcarriers: int, bandwidth: float
) -> NDArray[np.complex64]:
    """One snapshot [1, antennas, subcarriers] of paths with these delays (seconds), half a wavelength of spacing."""
    over_antennas = np.exp(1j * np.pi * np.outer(cone, np.arange(antennas)))
    over_subcarriers = np.exp(-2j * np.pi * np.outer(delay, subcarrier_offsets(subcarriers, bandwidth)))
    return np.einsum("p,pa,ps->as", gain, over_antennas, over_subcarriers)[None].astype(np.complex64)


@pytest.fixture(scope="session")
def make_channel() -> MakeChannel:
    return make_channel_of


def add_noise(csi: NDArray[np.complex64], snr_db: float, copies: int) -> NDArray[np.complex64]:
    """Copies [copies, antennas, subcarriers] of one snapshot with white noise relative to its mean power."""
    rng = np.random.default_rng(3)
    sigma = np.sqrt(np.mean(np.abs(csi) ** 2) / 2 * 10 ** (-snr_db / 10))
    shape = (copies, *csi.shape[1:])
    return (csi + sigma * (rng.normal(size=shape) + 1j * rng.normal(size=shape))).astype(np.complex64)


@pytest.fixture(scope="session")
def with_noise() -> Callable[..., NDArray[np.complex64]]:
    return add_noise
