"""The least time of a location on this machine: multiply-adds or bytes, divided by the measured rates.

Counts matrix products only, from the model's shape. A query is one token against a cached frame; a frame encodes the
known fingerprints. Weights do not count among the bytes: all waiting locations can share them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from models.mateformer.network import ACCURACY_SCALES, MateformerConfig

_BYTES = 4  # float32
_HALF = 2  # bytes of a frame's keys and values, a number
_GEMM, _STREAM_BYTES, _REPEATS = 1536, 2**28, 5


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


def query_work(config: MateformerConfig, neighbours: int) -> Work:
    """One user's token. Reads the frame's keys and values."""
    d, n, hidden = config.width, neighbours, config.hidden
    layer = 4 * d * d + 4 * n * d + 4 * d * hidden  # Q and O, attention to n keys, and FFN, of both streams
    token = (
        _angle_delay_transform(config) + _features(config) * d + 2 * d + 3 * len(ACCURACY_SCALES) * d * config.coarse
    )
    return Work(token + config.depth * layer + 2 * d, config.depth * 4 * n * d * _HALF)


def frame_work(config: MateformerConfig, neighbours: int) -> Work:
    """All known tokens of a neighbourhood; the last layer only makes their keys and values. Reads their CSI."""
    d, n, hidden = config.width, neighbours, config.hidden
    keys_values = 4 * d * d  # K and V of both attentions
    layer = 4 * d * d + 4 * n * d + 4 * d * hidden
    token = (
        _angle_delay_transform(config)
        + _features(config) * d
        + 2 * d
        + config.depth * keys_values
        + (config.depth - 1) * layer
    )
    return Work(n * token, n * 2 * config.antennas * config.subcarriers * _BYTES)


def full_work(config: MateformerConfig, neighbours: int) -> Work:
    """The single pass for one user: a frame, and a query whose reads hit the processor's cache."""
    frame, query = frame_work(config, neighbours), query_work(config, neighbours)
    return Work(frame.multiply_adds + query.multiply_adds, frame.bytes)


def floors(config: MateformerConfig, neighbours: int, machine: Machine) -> list[Floor]:
    """For each kind of tile. Users who share a tile read its keys and values once for all of them."""
    query = query_work(config, neighbours)
    works = {"cold": full_work(config, neighbours), "warm-unique": query, "shared": replace(query, bytes=0)}
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


def _features(config: MateformerConfig) -> int:
    """How many real numbers of a channel enter the embedding."""
    a, s = config.antennas, config.subcarriers
    bins = round(config.angle_delay * a) * round(config.angle_delay * s)
    return 2 * a * s * config.raw + bins + (a * s + 2) * config.delay_compensated


def _angle_delay_transform(config: MateformerConfig) -> int:
    """Multiply-adds of the 2-D DFTs as products with cosines and sines, over antennas and then over subcarriers."""
    a, s = config.antennas, config.subcarriers
    bins_a, bins_s = round(config.angle_delay * a), round(config.angle_delay * s)
    timed = 4 * bins_a * a * s + 4 * bins_a * s * bins_s
    aligned = 4 * a * a * s + 4 * a * s * s
    return timed + aligned * config.delay_compensated
