"""Measured corridors: the survey and the test snapshots of each, by point.

A file is an ``.npz`` with ``csi`` complex `[n, 64]`, ``positions`` `[n, 2]` metres, ``path`` (the corridor),
``location`` (the point), ``times`` (seconds since 1970) and ``test``, each `[n]`. The 64 subcarriers are those of a
Wi-Fi channel of 20 MHz by ascending frequency, eight null subcarriers among them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reference_db import Cell, Fingerprints, write_fingerprint_file
from reference_db.cell import AntennaArray

SUBCARRIERS, BANDWIDTH, CARRIER = 64, 20e6, 5.2e9
OUTERMOST = 28  # IEEE 802.11n, 20 MHz: subcarriers -28 to 28 without 0 carry a signal
ORIGIN_DEG = (40.5734, -105.0865)  # the campus; positions are metres in a building's plan
SIGMA_M = 0.05  # of the points

Shown = Literal["channel", "captured"]  # the subcarriers that carry a signal, or all as they were captured
SHOWN: tuple[Shown, ...] = get_args(Shown)

_Csi = NDArray[np.complex64]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Snapshots:
    """CSI complex64 `[n, 1, 64]`, positions float32 `[n, 2]` metres, points int `[n]`, times float `[n]` seconds."""

    csi: _Csi
    positions: NDArray[np.float32]
    points: NDArray[np.int64]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)

    def select(self, rows: NDArray[np.int64] | _Bools) -> Snapshots:
        return Snapshots(self.csi[rows], self.positions[rows], self.points[rows], self.times[rows])

    def first_of_each_point(self, count: int) -> Snapshots:
        """At most `count` snapshots of each point."""
        return self.select(
            np.concatenate([np.flatnonzero(self.points == one)[:count] for one in np.unique(self.points)])
        )


@dataclass(frozen=True, eq=False)
class Corridor:
    """No point is in both parts."""

    name: str
    survey: Snapshots
    test: Snapshots

    def with_tests(self, snapshots: int | None) -> Corridor:
        """With at most so many test snapshots of each point; None: all."""
        return self if snapshots is None else replace(self, test=self.test.first_of_each_point(snapshots))

    def describe(self) -> Cell:
        """The cell. Nothing is known of the radios' clocks, nor where the access point is."""
        latitude, longitude = ORIGIN_DEG
        return Cell(
            cell_id=self.name,
            latitude_deg=latitude,
            longitude_deg=longitude,
            height=0.0,
            yaw=0.0,
            array=AntennaArray(rows=1, columns=1),
            carrier_frequency=CARRIER,
            bandwidth=BANDWIDTH,
            subcarriers=SUBCARRIERS,
        )

    def write_survey(self, file: Path, snapshots: int) -> None:
        """Writes a fingerprint file with at most so many snapshots of each point."""
        some = self.survey.first_of_each_point(snapshots)
        sigmas = np.full(len(some), SIGMA_M, np.float32)
        fingerprints = Fingerprints(some.csi, some.positions, np.zeros(len(some)), sigmas)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_fingerprint_file(file, self.describe(), fingerprints)


def read_corridors(file: Path, shown: Shown) -> list[Corridor]:
    """The corridors of a file. Positions are metres from the corridor's first snapshot.

    Raises `ValueError` if the CSI has another number of subcarriers, or if a point is in both parts.
    """
    with np.load(file) as arrays:
        csi, positions, path, points, times, test = (
            arrays[name] for name in ("csi", "positions", "path", "location", "times", "test")
        )
    if csi.shape[1:] != (SUBCARRIERS,):
        raise ValueError(f"csi has the shape {list(csi.shape)}, not [n, {SUBCARRIERS}]")
    kept = np.asarray(clear_null_subcarriers(csi) if shown == "channel" else csi, np.complex64)[:, np.newaxis]
    corridors = []
    for number in np.unique(path):
        here = path == number
        if both := set(points[here & test].tolist()) & set(points[here & ~test].tolist()):
            raise ValueError(f"snapshots of point {min(both)} are in the survey and in the test")
        moved = (positions - positions[here][0]).astype(np.float32)
        everything = Snapshots(kept, moved, points.astype(np.int64), times)
        survey, asked = (everything.select(here & part) for part in (~test, test))
        corridors.append(Corridor(f"corridor-{number}", survey, asked))
    return corridors


def find_null_subcarriers() -> _Bools:
    """The guard subcarriers and the one at the carrier, which no signal is sent on: `[64]`."""
    number = np.arange(SUBCARRIERS) - SUBCARRIERS // 2
    null: _Bools = (np.abs(number) > OUTERMOST) | (number == 0)
    return null


def clear_null_subcarriers(csi: _Csi) -> _Csi:
    """CSI `[n, 64]` with 0 on the guard subcarriers, and at the carrier the mean of both neighbours."""
    cleared: _Csi = np.where(find_null_subcarriers(), np.complex64(0), csi)
    carrier = SUBCARRIERS // 2
    cleared[:, carrier] = (csi[:, carrier - 1] + csi[:, carrier + 1]) / 2
    return cleared
