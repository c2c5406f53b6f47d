"""The demo's third part: locates users by the CSI of several base stations, if an artifact that measures is shipped.

A file ``benchmarks/data/<cell>-stations.safetensors`` holds what one base station measures: the same users row by row
as the files of the street's other stations, ``<cell>-1`` and so on. ``<cell>-first-paths.npy`` beside it holds the
truth about their first paths. `fingerpost-train scenes stations` writes both. The cells have no fingerprints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fingerpost import Client, LocateResponse, LwlmProvenance
from reference_db import Cell, read_fingerprint_file
from service.settings import Settings

SUFFIX, TRUTH_SUFFIX = "-stations.safetensors", "-first-paths.npy"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Station:
    """One base station's users: CSI complex64 `[users, antennas, subcarriers]`, positions float32 `[users, 2]` and
    first paths float64 `[users, 3]` as the files hold them.
    """

    cell: Cell
    csi: NDArray[np.complex64]
    positions: NDArray[np.float32]
    first_paths: Floats


@dataclass(frozen=True)
class StationsResult:
    """Errors of each user in metres, of angles in degrees."""

    cells: list[str]
    together: Floats
    inside: NDArray[np.bool_]
    disagreeing: int
    alone: dict[str, Floats]
    alone_inside: NDArray[np.bool_]  # [stations, users]
    ranges: Floats  # [stations, users]
    angles: Floats  # [stations, users]
    line_of_sight: NDArray[np.bool_]  # [stations, users]
    seconds: Floats  # of each request with all measurements

    def lines(self) -> Iterator[str]:
        what = f"{len(self.together)} users of {len(self.cells)} base stations without fingerprints"
        best = min(self.alone, key=lambda cell: float(self.alone[cell].mean()))
        alone = ", ".join(f"{cell} {errors.mean():.2f} m" for cell, errors in self.alone.items())
        yield f"{what}, by one of them: mean error {alone}; {100 * self.alone_inside.mean():.1f} % inside their ellipse"
        angle, length, seen = self.angles, self.ranges, self.line_of_sight
        yield (
            f"{what}, POST /measure: mean error of the range {length.mean():.2f} m "
            f"(in line of sight {length[seen].mean():.2f} m), of the angle of arrival {angle.mean():.2f} degrees "
            f"({angle[seen].mean():.2f})"
        )
        yield (
            f"{what}, by all of them: mean error {self.together.mean():.2f} m, "
            f"{100 * (1 - self.together.mean() / self.alone[best].mean()):.0f} % less than the best; "
            f"{100 * self.inside.mean():.1f} % inside their stated 95 % area, {self.disagreeing} users whose stations "
            f"disagree; p50 latency {1000 * np.median(self.seconds):.1f} ms"
        )


def shown_streets(folder: Path) -> list[list[Path]]:
    """The files of each street's base stations; none if no artifact that measures is shipped."""
    if Settings().lwlm_artifact_directory is None:
        return []
    streets: dict[str, list[Path]] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.name.removesuffix(SUFFIX)):
        city, seed, *_ = file.name.removesuffix(SUFFIX).split("-")
        streets.setdefault(f"{city}-{seed}", []).append(file)
    return [files for files in streets.values() if len(files) > 1]


def locate_by_stations(url: str, files: list[Path]) -> StationsResult:
    """Posts each user's snapshots one by one to `/locate` and `/measure`, and all together. The cells must exist."""
    stations = [_read(file) for file in files]
    first = stations[0]
    with Client(url) as client:
        alone = [[client.locate(one.cell.cell_id, csi) for csi in one.csi] for one in stations]
        measured = [[client.measure(one.cell.cell_id, csi) for csi in one.csi] for one in stations]
        together, seconds = [], []
        for row in range(len(first.csi)):
            started = time.perf_counter()
            together.append(client.locate_by_stations({one.cell.cell_id: one.csi[row] for one in stations}))
            seconds.append(time.perf_counter() - started)
    errors = {one.cell.cell_id: _errors(found, one.positions) for one, found in zip(stations, alone, strict=True)}
    truth = np.stack([one.first_paths for one in stations])
    ranges = np.array([[answer.range for answer in found] for found in measured])
    azimuths = np.array([[answer.aoa_deg for answer in found] for found in measured])
    wanted = np.stack([_seen_in_front(one.first_paths[:, 1], one.cell.yaw) for one in stations])
    fused = _errors(together, first.positions)
    return StationsResult(
        cells=[one.cell.cell_id for one in stations],
        together=fused,
        inside=fused <= np.array([answer.h_accuracy for answer in together]),
        disagreeing=sum(_disagree(answer) for answer in together),
        alone=errors,
        alone_inside=np.stack(list(errors.values())) <= [[answer.h_accuracy for answer in found] for found in alone],
        ranges=np.abs(ranges - truth[:, :, 0]),
        angles=np.abs((azimuths - wanted + 180) % 360 - 180),
        line_of_sight=truth[:, :, 2] == 1,
        seconds=np.array(seconds),
    )


def _read(file: Path) -> Station:
    cell, users = read_fingerprint_file(file)
    first_paths = np.load(file.with_name(file.name.replace(SUFFIX, TRUTH_SUFFIX)), allow_pickle=False)
    return Station(cell, users.csi, users.positions, first_paths)


def _errors(answers: list[LocateResponse], truth: NDArray[np.float32]) -> Floats:
    points = [answer.local_location_estimate.point for answer in answers]
    found = np.array([(point.x, point.y) for point in points])
    return np.asarray(np.linalg.norm(found - truth, axis=1), np.float64)


def _disagree(answer: LocateResponse) -> bool:
    return isinstance(answer.provenance, LwlmProvenance) and answer.provenance.disagreement is not None


def _seen_in_front(azimuth: Floats, yaw: float) -> Floats:
    """Compass azimuths in degrees of paths with these azimuths (radians), mirrored into the front of the array."""
    off = (azimuth - yaw + np.pi) % (2 * np.pi) - np.pi
    front = np.where(np.abs(off) > np.pi / 2, np.copysign(np.pi, off) - off, off)
    return np.asarray((90 - np.degrees(front + yaw)) % 360)
