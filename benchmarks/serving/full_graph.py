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

    `references` is an npz of `csi` float32 `[n, antennas, subcarriers, 2]` and `positions` float32 `[n, 2]`.
    """

    def __init__(self, graph: Path, references: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in the service
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._taken = [taken.name for taken in self._session.get_inputs()]
        with np.load(references) as held:
            self._csi, self._positions = held["csi"], held["positions"]

    @classmethod
    def of_environment(cls) -> Self:
        """From the environment variables that `rivals.py` sets."""
        graph, references, threads = (os.environ[f"BENCH_{name}"] for name in ("GRAPH", "REFERENCES", "THREADS"))
        return cls(Path(graph), Path(references), int(threads))

    @property
    def width(self) -> int:
        """Numbers in a user's row."""
        return int(self._csi[0].size) + 3

    def feeds(self, rows: Floats) -> dict[str, Floats]:
        """All inputs that a model may take, for users `[b, width]`."""
        users = Users.of_rows(rows, *self._csi.shape[1:3])
        off = np.square(self._positions - users.coarse[:, np.newaxis]).sum(axis=2)  # [b, n]
        near = np.argpartition(off, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        return {
            "csi_known": self._csi[near],
            "positions_known": self._positions[near],
            "csi": users.csi[:, np.newaxis],
            "coarse": users.coarse[:, np.newaxis],
            "accuracy": users.accuracy[:, np.newaxis],
        }

    def locate(self, rows: Floats) -> Floats:
        """Positions float32 `[b, 2]` of users `[b, width]`, all in one inference."""
        feeds = self.feeds(rows)
        positions: Floats = self._session.run(["positions"], {name: feeds[name] for name in self._taken})[0][:, 0]
        return positions
