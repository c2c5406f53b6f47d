"""The least time of a location on this machine: multiply-adds or bytes, divided by the measured rates.

Counts matrix products only, from the model's shape. A query is one token against a cached frame; a frame encodes the
known fingerprints. Weights do not count among the bytes: all waiting locations can share them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.artifact.channel_transform import (
    ABSOLUTE_DELAYS,
    DIRECTIONS,
    ELEVATION_DELAYS,
    ELEVATIONS,
    FEWEST_SPARSE_DELAYS,
    RELATIVE_DELAYS,
    SEARCHED_DELAYS,
)
from models.layers.channel_features import FEATURES
from models.mateformer.network import ACCURACY_SCALES, MateformerConfig

_BYTES = 4  # float32
_HALF = 2  # bytes of a frame's keys and values, a number
_GEMM, _STREAM_BYTES, _REPEATS = 1536, 2**28, 5


class Shape(NamedTuple):
    """The shape of a cell's CSI; `lines` are the rows of both polarisations."""

    lines: int
    columns: int
    subcarriers: int


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one location, and bytes read for this location only."""

    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class Machine:
    """Multiply-adds and bytes per second, of all cores together."""

    multiply_adds: float
    bytes: float


@dataclass(frozen=True)
class Floor:
    """The least seconds of a location, for computing and for reading memory."""

    kind: str
    multiply_adds: int
    computing_s: float
    reading_s: float

    @property
    def seconds(self) -> float:
        return max(self.computing_s, self.reading_s)


def describe_work(radio: Shape) -> Work:
    """The features of one snapshot: spectra over delay and direction, and the search for the strongest path."""
    lines, columns, s = radio.lines, radio.columns, radio.subcarriers

    def spectrum(rows: int, elements: int, directions: int, delays: int) -> int:
        return rows * elements * 2 * s * 2 * delays + rows * 2 * directions * 2 * elements * delays

    resolved = [last - first for first, last in (ABSOLUTE_DELAYS, RELATIVE_DELAYS)]
    delays = [*resolved, max(FEWEST_SPARSE_DELAYS, 1 << (s - 1).bit_length())]
    spectra = sum(spectrum(lines, columns, DIRECTIONS, some) for some in delays)
    elevations = spectrum(1, lines, 2 * ELEVATIONS, ELEVATION_DELAYS[1] - ELEVATION_DELAYS[0])
    strongest = lines * 2 * columns * 2 * s + lines * 2 * s * 2 * SEARCHED_DELAYS + 2 * SEARCHED_DELAYS
    return Work(spectra + elevations + strongest, 2 * lines * columns * s * _BYTES)


def query_work(config: MateformerConfig, neighbours: int) -> Work:
    """One user's token. Reads the frame's keys and values."""
    d, n, hidden = config.width, neighbours, config.hidden
    layer = 4 * d * d + 4 * n * d + 4 * d * hidden  # Q and O, attention to n keys, and FFN, of both streams
    token = (FEATURES + 1) * d + 3 * d + 3 * len(ACCURACY_SCALES) * d
    certainty = 2 * d * (d // 2) + 4 * (d // 2)
    return Work(token + config.depth * layer + 2 * d + certainty, config.depth * 4 * n * d * _HALF)


def frame_work(config: MateformerConfig, neighbours: int) -> Work:
    """All known tokens of a neighbourhood; the last layer only makes their keys and values. Reads their features."""
    d, n, hidden = config.width, neighbours, config.hidden
    keys_values = 4 * d * d  # K and V of both attentions
    layer = 4 * d * d + 4 * n * d + 4 * d * hidden
    token = (FEATURES + 1) * d + 3 * d + config.depth * keys_values + (config.depth - 1) * layer
    return Work(n * token, n * FEATURES * _BYTES)


def full_work(config: MateformerConfig, neighbours: int) -> Work:
    """The single pass for one user: a frame, and a query whose reads hit the processor's cache."""
    frame, query = frame_work(config, neighbours), query_work(config, neighbours)
    return Work(frame.multiply_adds + query.multiply_adds, frame.bytes)


def floors(config: MateformerConfig, neighbours: int, radio: Shape, machine: Machine) -> list[Floor]:
    """For each kind of tile. Users who share a tile read its keys and values once for all of them.

    A cold tile describes its neighbourhood too.
    """
    query, user = query_work(config, neighbours), describe_work(radio)
    full = full_work(config, neighbours)
    works = {
        "cold": Work(full.multiply_adds + (neighbours + 1) * user.multiply_adds, (neighbours + 1) * user.bytes),
        "warm-unique": Work(query.multiply_adds + user.multiply_adds, query.bytes + user.bytes),
        "shared": Work(query.multiply_adds + user.multiply_adds, user.bytes),
    }
    return [
        Floor(kind, work.multiply_adds, work.multiply_adds / machine.multiply_adds, work.bytes / machine.bytes)
        for kind, work in works.items()
    ]


def measure_machine() -> Machine:
    """The best of a few runs: a large float32 product by NumPy's BLAS, and a sum over 256 MiB by torch.

    On some processors torch's own products take twice as long.
    """
    import torch

    a, b = np.random.default_rng(0).random((2, _GEMM, _GEMM), np.float32)
    stream = torch.ones(_STREAM_BYTES // _BYTES)
    return Machine(_GEMM**3 / _best(lambda: a @ b), _STREAM_BYTES / _best(stream.sum))


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
