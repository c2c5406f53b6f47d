"""CSI of few paths in closed form, and the features that the graph ``describe`` gives it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.channel_transform import (
    ABSOLUTE_DELAYS,
    DIRECTIONS,
    ELEVATION_DELAYS,
    ELEVATIONS,
    RELATIVE_DELAYS,
    ChannelTransform,
)
from models.layers.channel_features import ABSOLUTE, RELATIVE, SPECTRA, describe_channel
from reference_db.cell import AntennaArray


@dataclass(frozen=True)
class Path:
    """One path, with its direction off broadside in radians and its gains at each polarisation."""

    delay: float
    azimuth: float = 0.0
    elevation: float = 0.0
    gains: tuple[complex, complex] = (1.0, 1.0)

    @property
    def along_columns(self) -> float:
        return math.cos(self.elevation) * math.sin(self.azimuth)

    @property
    def along_rows(self) -> float:
        return math.sin(self.elevation)


def observe(array: AntennaArray, subcarriers: int, bandwidth: float, *paths: Path) -> NDArray[np.complex64]:
    """CSI [antennas, subcarriers] by plane waves: a path of delay τ contributes exp(-j 2 π f τ)."""
    hertz = (np.arange(subcarriers) - subcarriers // 2) * bandwidth / subcarriers
    csi = np.zeros((array.polarisations, array.rows, array.columns, subcarriers), complex)
    for path in paths:
        cycles = array.spacing * (
            path.along_rows * np.arange(array.rows)[:, None, None]
            + path.along_columns * np.arange(array.columns)[:, None]
        )
        wave = np.exp(2j * np.pi * (cycles - path.delay * hertz))
        csi += np.array(path.gains[: array.polarisations])[:, None, None, None] * wave
    return csi.reshape(array.antennas, subcarriers).astype(np.complex64)


def as_pairs(csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(csi, np.complex64)[..., None].view(np.float32)


def describe(channel: ChannelTransform, csi: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Features [t, F] of snapshots [t, antennas, subcarriers]."""
    feeds = channel.feeds(as_pairs(csi))
    return describe_channel(*(torch.from_numpy(value) for value in feeds.values())).numpy()


@dataclass(frozen=True)
class Described:
    """The parts of the features of snapshots."""

    features: NDArray[np.float32]

    @property
    def absolute(self) -> NDArray[np.float32]:
        return self._spectrum(0, ABSOLUTE_DELAYS, DIRECTIONS)

    @property
    def relative(self) -> NDArray[np.float32]:
        return self._spectrum(ABSOLUTE, RELATIVE_DELAYS, DIRECTIONS)

    @property
    def elevation(self) -> NDArray[np.float32]:
        return self._spectrum(ABSOLUTE + RELATIVE, ELEVATION_DELAYS, ELEVATIONS)

    @property
    def level(self) -> NDArray[np.float32]:
        return self.features[:, SPECTRA]

    @property
    def delay(self) -> NDArray[np.float32]:
        return self.features[:, SPECTRA + 1]

    def _spectrum(self, start: int, delays: tuple[int, int], directions: int) -> NDArray[np.float32]:
        """[t, delays, directions]"""
        size = (delays[1] - delays[0]) * directions
        return self.features[:, start : start + size].reshape(-1, directions, delays[1] - delays[0]).swapaxes(1, 2)


def peak(spectrum: NDArray[np.float32]) -> tuple[int, int]:
    """The delay bin and the direction bin of the highest power of one spectrum."""
    delay, direction = np.unravel_index(int(spectrum.argmax()), spectrum.shape)
    return int(delay), int(direction)
