"""The demo's part on walks: several snapshots of one user, located together by the fingerprints of a cell.

A file ``benchmarks/data/<cell>-walks.safetensors`` holds the snapshots of one walk after those of another, a second
apart. `fingerpost-train scenes walks` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_trajectories import point_of
from fingerpost import Client, Refused
from reference_db import read_fingerprint_file

SUFFIX = "-walks.safetensors"


@dataclass(frozen=True)
class WalksResult:
    """Where the snapshots of walks were found, `[walks, snapshots, 2]` metres, and where they were."""

    cell: str
    truth: NDArray[np.float32]
    alone: NDArray[np.float64]
    together: NDArray[np.float64]
    tracked: NDArray[np.float64]  # [walks, 2] the last snapshot of each, posted one by one with a trackId
    refused: int  # walks with a snapshot that was taken for another cell's

    def lines(self) -> Iterator[str]:
        walks, snapshots, _ = self.truth.shape
        alone, together, last, tracked = (
            float(np.linalg.norm(found - truth, axis=-1).mean())
            for found, truth in (
                (self.alone, self.truth),
                (self.together, self.truth),
                (self.alone[:, -1], self.truth[:, -1]),
                (self.tracked, self.truth[:, -1]),
            )
        )
        yield (
            f"{walks} walks of {snapshots} snapshots in {self.cell}, no GNSS: mean error {alone:.2f} m each alone, "
            f"{together:.2f} m together; of the last one {last:.2f} m alone, {tracked:.2f} m with a trackId; "
            f"{self.refused} more walks had a snapshot that was refused as foreign"
        )


def shown_walks(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def locate_walks(url: str, file: Path) -> WalksResult:
    """Posts each walk at once, and each of its snapshots by itself and with a trackId. The cell must exist."""
    cell, users = read_fingerprint_file(file)
    walks = int((users.times == users.times[0]).sum())
    truth = users.positions.reshape(walks, -1, 2)
    length = len(users.times) // walks
    moments = [datetime.now(UTC) - timedelta(seconds=length - i) for i in range(length)]  # as far apart as in the file
    answered, alone, together, tracked = list[int](), [], [], []
    with Client(url) as client:
        for number, walk in enumerate(users.csi.reshape(walks, -1, *users.csi.shape[1:])):
            try:
                single = [point_of(client.locate(cell.cell_id, one)) for one in walk]
            except Refused as refused:
                if refused.problem.cause != "CSI_FOREIGN":
                    raise
                continue
            answered.append(number)
            alone.append(single)
            together.append([point_of(one) for one in client.locate_trajectory(cell.cell_id, walk).points])
            for one, moment in zip(walk, moments, strict=True):
                last = client.locate(cell.cell_id, one, track_id=f"demo-walk-{number}", timestamp=moment)
            tracked.append(point_of(last))
    found = (np.array(one) for one in (alone, together, tracked))
    return WalksResult(cell.cell_id, truth[answered], *found, refused=walks - len(answered))
