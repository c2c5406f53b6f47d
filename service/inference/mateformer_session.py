"""Runs a Mateformer artifact: one neighbourhood a user, or frames that many users share."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import MateformerArtifact, MateformerManifest, RadioContract, TensorSpec, TracksContract
from models.artifact.channel_transform import ChannelTransform
from models.artifact.track_numbers import Described, describe_tracks
from reference_db.cell import AntennaArray, Cell
from reference_db.half_csi import as_complex
from service.errors import InferenceFailed, OutOfMemory
from service.inference.bound_graph import BoundGraph, load_graphs
from service.inference.session import ModelSession, plane_waves

_log = logging.getLogger("fingerpost.models")

_Array = NDArray[np.float32]
_Run = Callable[[str, Mapping[str, NDArray[np.generic]]], dict[str, _Array]]

# Real numbers of CSI that one run of the graph `describe` takes: bounds its memory.
_DESCRIBED_AT_ONCE = 1 << 22
_PROVEN_COLUMNS, _PROVEN_SUBCARRIERS = 8, 16  # of the plane waves that prove a model, if it serves such radios
_LEAST_ACCURACY_M = np.float32(0.001)  # of a coarse position, 1 sigma on each axis
_SAME_M = 0.05  # frames are kept in half precision
_FRAME, _QUERY, _QUERY_FEW, _TRACK = "frame", "query", "query_few", "track"
_FRAME_ALONE = "frame of one thread"  # the graph `frame`, for runs beside each other
# Users in a run that `query_few` is for. Its weights are fewer bytes, and its arithmetic is no faster. CPU time of a
# run beside `query` (benchmarks/results/query_cost.md), paper's size / shipped: one user 0.74 / 0.85, four 0.82 to 0.88
# / 0.93, eight 0.96 to 0.99 / 0.98 to 1.04, sixteen more than 1.
_FEW_USERS = 4
# A CPU without the instructions takes 4 times as long as `query`, all others less than `query`.
_TOO_SLOW = 2.0
_PROVING_RUNS = 5  # the fastest counts, so that other work on the machine does not
_DEVICES = {"CUDAExecutionProvider": "cuda"}  # where a provider keeps its memory; all others: the CPU


class Located(NamedTuple):
    """Positions float32 `[..., 2]` in metres, their covariances `[..., 2, 2]` in square metres, and the streams
    `[..., s]` that both were read off, with s = 0 from graphs that do not return them.

    Not finite where the model has no answer.
    """

    positions: _Array
    covariances: _Array
    streams: _Array

    @classmethod
    def of(cls, outputs: Mapping[str, _Array]) -> "Located":
        """What the graphs `full` and `query` say."""
        positions, streams = outputs["positions"], outputs.get("streams")
        if streams is None:
            streams = np.empty((*positions.shape[:-1], 0), np.float32)
        return cls(positions, outputs["covariances"], streams)

    @classmethod
    def allocate(cls, n: int, streams: int) -> "Located":
        """Room for n users."""
        return cls(*(np.empty((n, *shape), np.float32) for shape in ((2,), (2, 2), (streams,))))


class MateformerSession(ModelSession[MateformerArtifact]):
    """The graphs `describe` and `full` and, where the artifact has them, `frame` and `query`, which share pools of
    frames, and `query_few`, which is `query` for few users on a CPU.

    `describe` turns CSI of one cell into features, which all other graphs take: a run of these may hold users of
    different radios. `query_few` is left out where it does not load, is no faster, or answers otherwise. `track`, where
    the artifact has it, locates the snapshots of a user together.
    """

    @property
    def manifest(self) -> MateformerManifest:
        return self.artifact.manifest

    @property
    def has_frames(self) -> bool:
        """Whether a neighbourhood can be encoded once for all users in it."""
        graphs = self.manifest.graphs
        return "frame" in graphs and "query" in graphs and bool(graphs["frame"].pools)

    @property
    def streams(self) -> int:
        """Numbers of the streams of a located user; 0 where the graphs do not return them."""
        widths = [spec.shape[-1] for spec in self.manifest.graphs["full"].outputs if spec.name == "streams"]
        return int(widths[0]) if widths else 0

    @property
    def wants_few_shapes(self) -> bool:
        """Whether a new input shape costs the provider far more than padding to a larger known shape."""
        return self.providers[0] in _DEVICES

    @property
    def frame_bytes(self) -> int:
        """Size of the frame of a full neighbourhood."""
        pools = self.manifest.graphs["frame"].pools
        return sum(math.prod(self._sized(spec, 1)) * np.dtype(spec.dtype).itemsize for spec in pools)

    def make_room(self, frames: int) -> None:
        """Allocates pools with one slot a frame on the provider's device; the system commits memory as slots fill."""
        device = _DEVICES.get(self.providers[0], "cpu")
        self._pools = {
            spec.name: ort.OrtValue.ortvalue_from_shape_and_type(self._sized(spec, frames), spec.dtype, device)
            for spec in self.manifest.graphs["frame"].pools
        }
        self._graphs = {name: graph.rebound(self._pools) for name, graph in self._graphs.items()}
        self._background_graphs = {}

    def describe(self, channel: ChannelTransform, csi: _Array) -> _Array:
        """Features float32 `[t, F]` of snapshots `[t, antennas, subcarriers, 2]` of one cell.

        For the owner thread only. Raises `OutOfMemory` or `InferenceFailed`.
        """
        return self._describe(self.run, channel, csi)

    def describe_in_background(self, channel: ChannelTransform, csi: _Array) -> _Array:
        """As `describe`, on the background session. Blocking. For any thread but the owner thread."""
        return self._describe(self.run_in_background, channel, csi)

    def prove(self) -> None:
        known, users = self._waves(self.manifest.minimum_neighbours)
        outputs = self.submit(self.run, "full", known | users).result()
        _check(outputs)
        if self.manifest.tracks is not None:
            self._prove_track(Located.of(outputs), self.manifest.tracks)

    def prove_frame(self, slot: int) -> None:
        """Encodes plane waves into a slot and locates one of them by this frame.

        Raises `InferenceFailed` unless the `full` graph gives the same position. A `query_few` that gives another one,
        or is slow on this machine, is left out.
        """
        known, users = self._waves(self.manifest.neighbourhood_size)
        slots = {"slots": np.array([slot])}
        self.submit(self.run, "frame", known | slots).result()
        by_full = _check(self.submit(self.run, "full", known | users).result())
        by_frame = _check(self.submit(self.run, _QUERY, users | slots).result())
        if not np.allclose(by_full, by_frame, atol=_SAME_M):
            raise InferenceFailed("the graphs frame and query give another position than the graph full")
        if _QUERY_FEW in self._graphs and (reason := self._reason_against_few(users | slots, by_full)):
            self._leave_few_out(reason)

    def join(self, streams: _Array, described: Described) -> tuple[_Array, _Array]:
        """Positions float32 `[b, t, 2]` and covariances `[b, t, 2, 2]` of the snapshots of tracks, located together.

        `streams` float32 `[b, t, s]` of each snapshot located alone. For the owner thread only. Raises `OutOfMemory` or
        `InferenceFailed`.
        """
        numbers = {"numbers": described.numbers, "smoothed": described.smoothed, "sigma": described.sigma}
        outputs = self.run(_TRACK, {"streams": streams, **numbers})
        return outputs["positions"], outputs["covariances"]

    def query(self, users: Mapping[str, NDArray[np.generic]]) -> Located:
        """Locates `users` `[frames, users, ...]` in the frames of their `slots`. For the owner thread only.

        Raises `OutOfMemory` or `InferenceFailed`.
        """
        few = _QUERY_FEW in self._graphs and users["accuracy"].size <= _FEW_USERS
        return Located.of(self.run(_QUERY_FEW if few else _QUERY, users))

    def encode(self, known: Mapping[str, NDArray[np.generic]]) -> None:
        """Encodes neighbourhoods, the inputs of the graph `frame`, into their `slots`. For the owner thread only.

        Several are dealt to as many threads, each with a run of its own: threads that share the operators of one run
        wait for each other at each. Raises `OutOfMemory` or `InferenceFailed`.
        """
        n = len(known["slots"])
        threads = 1 if self.wants_few_shapes else min(n, self._encoders)
        if threads == 1:
            self.run(_FRAME, known)
            return
        parts = np.array_split(np.arange(n), threads)
        self._guard(
            lambda: self._encode_at_once([{name: part[some] for name, part in known.items()} for some in parts])
        )

    def _encode_at_once(self, parts: Sequence[Mapping[str, NDArray[np.generic]]]) -> None:
        graph = self._graphs[_FRAME if self._threads == 1 else _FRAME_ALONE]
        with ThreadPoolExecutor(len(parts) - 1, thread_name_prefix="frames") as helpers:
            helped = [helpers.submit(graph.rebound(self._pools).run, part) for part in parts[1:]]
            graph.rebound(self._pools).run(parts[0])
        for one in helped:
            one.result()

    @property
    def _encoders(self) -> int:
        """Threads that encode frames. The event loop's core helps: the loop waits for users of new tiles too."""
        return min(self._threads + 1, max(self._threads, os.cpu_count() or 1))

    def _load(self, threads: int) -> dict[str, BoundGraph]:
        graphs = self._load_all(threads)
        if threads > 1 and _FRAME in graphs and not self.wants_few_shapes:
            others = self.artifact.graphs.keys() - {_FRAME}
            graphs[_FRAME_ALONE] = load_graphs(self.artifact, 1, self.providers, self._pools, others)[_FRAME]
        return graphs

    def _load_all(self, threads: int) -> dict[str, BoundGraph]:
        """All graphs, but `query_few` where it does not load."""
        if _QUERY_FEW not in self.artifact.graphs or _QUERY_FEW in self._left_out:
            return super()._load(threads)
        if self.providers[0] != "CPUExecutionProvider":
            self._left_out.add(_QUERY_FEW)
            return super()._load(threads)
        try:
            return super()._load(threads)
        except Exception as error:  # ONNX Runtime raises many undocumented types
            self._left_out.add(_QUERY_FEW)
            graphs = super()._load(threads)  # any other graph that does not load fails again
            _log.warning("query_few does not load, so query is used for few users too: %s", error)
            return graphs

    def _prove_track(self, alone: Located, contract: TracksContract) -> None:
        """Locates a track of snapshots `alone` `[1, 1, ...]`, as many as the longest track has.

        Raises `InferenceFailed` unless the answer is finite.
        """
        n = contract.snapshots
        positions, covariances, streams = (np.repeat(part, n, axis=1) for part in alone)
        seconds, unknown = np.arange(float(n))[np.newaxis], np.full((1, n), np.inf)
        described = describe_tracks(positions, covariances, positions, unknown, seconds, contract.motion)
        answers = self.submit(self.join, streams, described).result()
        if not all(one.shape[:2] == (1, n) and np.isfinite(one).all() for one in answers):
            raise InferenceFailed("the graph track's answer is not finite or has an unexpected shape")

    def _reason_against_few(self, users: Mapping[str, NDArray[np.generic]], expected: _Array) -> str | None:
        """Why `query_few` is not to be used for these users or any others; None if it is."""
        try:
            found = _check(self.submit(self.run, _QUERY_FEW, users).result())
        except (InferenceFailed, OutOfMemory) as error:
            return f"it fails: {error}"
        if not np.allclose(expected, found, atol=_SAME_M):
            return "it gives another position than the graph full"
        seconds = {name: self.submit(self._fastest_run, name, users).result() for name in (_QUERY, _QUERY_FEW)}
        if seconds[_QUERY_FEW] > _TOO_SLOW * seconds[_QUERY]:
            return f"a run takes {1000 * seconds[_QUERY_FEW]:.1f} ms, one of query {1000 * seconds[_QUERY]:.1f} ms"
        return None

    def _fastest_run(self, graph: str, users: Mapping[str, NDArray[np.generic]]) -> float:
        """Seconds of the fastest of some runs."""
        taken = []
        for _ in range(_PROVING_RUNS):
            started = time.perf_counter()
            self.run(graph, users)
            taken.append(time.perf_counter() - started)
        return min(taken)

    def _leave_few_out(self, reason: str) -> None:
        _log.warning("query_few is left out, and query is used for few users too: %s", reason)
        self._left_out.add(_QUERY_FEW)
        self._graphs = {name: graph for name, graph in self._graphs.items() if name != _QUERY_FEW}

    def _describe(self, run: _Run, channel: ChannelTransform, csi: _Array) -> _Array:
        step = max(1, _DESCRIBED_AT_ONCE // csi[0].size)
        parts = [self._describe_part(run, channel, csi[first : first + step]) for first in range(0, len(csi), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _describe_part(self, run: _Run, channel: ChannelTransform, csi: _Array) -> _Array:
        n = len(csi)
        if self.wants_few_shapes:
            csi = np.concatenate([csi, np.repeat(csi[-1:], (1 << (n - 1).bit_length()) - n, axis=0)])
        features = run("describe", channel.feeds(csi))["features"]
        return features[:n]

    def _sized(self, spec: TensorSpec, frames: int) -> tuple[int, ...]:
        return spec.sized(pool=frames, neighbours=self.manifest.neighbourhood_size)

    def _waves(self, n: int) -> tuple[dict[str, _Array], dict[str, _Array]]:
        """A neighbourhood of n plane waves, and one more as a user without a coarse position."""
        cell = example_cell(self.manifest.csi)
        waves = plane_waves(cell.antennas, cell.subcarriers, n + 1)
        channel = ChannelTransform.of(
            cell.array, cell.subcarriers, cell.bandwidth, cell.carrier_frequency, None, None, as_complex(waves)
        )
        features = self.submit(self.describe, channel, waves).result()
        if features.shape != (n + 1, self.manifest.features):
            raise InferenceFailed(f"the graph describe returns {features.shape}, not {(n + 1, self.manifest.features)}")
        known = {
            "features_known": features[np.newaxis, :n],
            "positions_known": np.linspace(-5, 5, 2 * n, dtype=np.float32).reshape(1, n, 2),
            "sigmas_known": np.full((1, n), 0.05, np.float32),
        }
        nowhere = np.full((1, 2), np.nan, np.float32)
        return known, as_users(features[n:], nowhere, nowhere[:, 0])


def example_cell(contract: RadioContract) -> Cell:
    """A cell with a small radio inside the ranges. Raises `InferenceFailed` if no radio is inside all of them."""
    lines = math.ceil(contract.polarisations.minimum) * math.ceil(contract.rows.minimum)
    least = max(contract.columns.minimum, contract.antennas.minimum / lines)
    most = min(contract.columns.maximum, contract.antennas.maximum / lines)
    cell = Cell(
        cell_id="example",
        latitude_deg=0,
        longitude_deg=0,
        height=10,
        yaw=0,
        array=AntennaArray(
            rows=math.ceil(contract.rows.minimum),
            columns=max(1, math.ceil(min(max(_PROVEN_COLUMNS, least), most))),
            spacing=contract.spacing.minimum,
            polarisations=2 if contract.polarisations.minimum > 1 else 1,
        ),
        carrier_frequency=contract.carrier_frequency.minimum,
        bandwidth=contract.bandwidth.minimum,
        subcarriers=math.ceil(
            min(max(_PROVEN_SUBCARRIERS, contract.subcarriers.minimum), contract.subcarriers.maximum)
        ),
    )
    if reason := contract.reason_against(cell):
        raise InferenceFailed(f"no radio is inside all ranges of the artifact: {reason}")
    return cell


def as_users(features: _Array, coarse: _Array, accuracy: _Array) -> dict[str, _Array]:
    """Turns users `[b, ...]` into inputs of the graphs, one user a neighbourhood.

    A NaN coarse position becomes the origin with an infinite `accuracy`: the graphs take no NaN. They divide by
    variances, so that an `accuracy` of 0 becomes `_LEAST_ACCURACY_M`.
    """
    known: NDArray[np.bool_] = np.isfinite(accuracy)
    return {
        "features": features[:, np.newaxis],
        "coarse": np.where(known[:, np.newaxis], coarse, np.float32(0))[:, np.newaxis],
        "accuracy": np.where(known, np.maximum(accuracy, _LEAST_ACCURACY_M), np.float32(np.inf))[:, np.newaxis],
    }


def _check(outputs: Mapping[str, _Array]) -> _Array:
    """The one position `[1, 1, 2]` that is expected, with a covariance. Raises `InferenceFailed`."""
    located = Located.of(outputs)
    shapes = [located.positions.shape, located.covariances.shape]
    if shapes != [(1, 1, 2), (1, 1, 2, 2)] or not all(np.isfinite(output).all() for output in located):
        raise InferenceFailed("the model's answer is not finite or has an unexpected shape")
    return located.positions
