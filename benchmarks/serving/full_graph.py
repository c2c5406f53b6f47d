"""The `full` graph in plain ONNX Runtime, for rivals and for runs in process. Needs NumPy and ONNX Runtime only.

It locates the same users from the same fingerprints as Fingerpost with less work: the neighbourhood is the fingerprints
nearest to the coarse position, there is one cell, and no uncertainty is stated.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

NEIGHBOURS = 64
_DESCRIBED_AT_ONCE = 128
MEDIA_TYPE = "application/octet-stream"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Users:
    """`csi` float32 `[b, antennas, subcarriers, 2]`, `coarse` `[b, 2]` metres, `accuracy` `[b]` metres an axis."""

    csi: Floats
    coarse: Floats
    accuracy: Floats

    def to_rows(self) -> Floats:
        """`[b, 2 · antennas · subcarriers + 3]`; its bytes are the body of a request to a rival."""
        return np.concatenate(
            [self.csi.reshape(len(self.csi), -1), self.coarse, self.accuracy[:, np.newaxis]], axis=1, dtype=np.float32
        )

    @classmethod
    def of_rows(cls, rows: Floats, antennas: int, subcarriers: int) -> Self:
        csi = rows[:, :-3].reshape(len(rows), antennas, subcarriers, 2)
        return cls(csi, rows[:, -3:-1], rows[:, -1])


class FullGraph:
    """The graph and one cell's fingerprints; an inference uses `threads` threads.

    `references` is an npz of `csi` float32 `[n, antennas, subcarriers, 2]`, `positions` float32 `[n, 2]`, `sigmas`
    float32 `[n]`, and all other inputs of the graph `describe`, which lies beside the graph. The fingerprints are
    described once, at the start.
    """

    def __init__(self, graph: Path, references: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in the service
        self._session, self._describing = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in (graph, graph.with_name("describe.onnx"))
        )
        self._taken = [taken.name for taken in self._session.get_inputs()]
        with np.load(references) as held:
            arrays = {name: held[name] for name in held.files}
        csi, self._positions, self._sigmas = (arrays.pop(name) for name in ("csi", "positions", "sigmas"))
        self._lines = tuple(arrays.pop("lines").tolist())
        self._shape = csi.shape[1:3]
        self._channel = arrays
        parts = range(0, len(csi), _DESCRIBED_AT_ONCE)
        self._features = np.concatenate([self.describe(csi[first : first + _DESCRIBED_AT_ONCE]) for first in parts])

    @classmethod
    def of_environment(cls) -> Self:
        """From the environment variables that `rivals.py` sets."""
        graph, references, threads = (os.environ[f"BENCH_{name}"] for name in ("GRAPH", "REFERENCES", "THREADS"))
        return cls(Path(graph), Path(references), int(threads))

    @property
    def width(self) -> int:
        """Numbers in a user's row."""
        return 2 * self._shape[0] * self._shape[1] + 3

    def describe(self, csi: Floats) -> Floats:
        """The features of snapshots `[t, antennas, subcarriers, 2]`."""
        lines = csi.reshape(len(csi), *self._lines, *csi.shape[2:])
        features: Floats = self._describing.run(["features"], {"csi": lines, **self._channel})[0]
        return features

    def feeds(self, rows: Floats) -> dict[str, Floats]:
        """All inputs that a model may take, for users `[b, width]`."""
        users = Users.of_rows(rows, *self._shape)
        off = np.square(self._positions - users.coarse[:, np.newaxis]).sum(axis=2)  # [b, n]
        near = np.argpartition(off, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        return {
            "features_known": self._features[near],
            "positions_known": self._positions[near],
            "sigmas_known": self._sigmas[near],
            "features": self.describe(users.csi)[:, np.newaxis],
            "coarse": users.coarse[:, np.newaxis],
            "accuracy": users.accuracy[:, np.newaxis],
        }

    def locate(self, rows: Floats) -> Floats:
        """Positions float32 `[b, 2]` of users `[b, width]`, all in one inference."""
        feeds = self.feeds(rows)
        positions: Floats = self._session.run(["positions"], {name: feeds[name] for name in self._taken})[0][:, 0]
        return positions
