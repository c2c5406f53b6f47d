"""Locates users in measured Wi-Fi channels, over real HTTP, by a model that was trained on ray-traced streets only.

``python -m benchmarks.measured FILE`` reads corridors of the CSUIndoorLoc data set: one antenna, 20 MHz, one access
point a corridor (L. Wang and S. Pasricha, IPIN 2022). FILE is an ``.npz`` with ``csi`` complex `[n, subcarriers]`,
``positions`` `[n, 2]` metres, ``path`` (the corridor), ``location`` (the point) and ``test``, each `[n]`. It imports
the survey of each corridor as a cell, starts the service on a free port, and posts every test snapshot without a coarse
position. Survey and test were measured at other times. No snapshot of a test point is in the survey.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo import FINGERPOST, running_service
from benchmarks.markdown import table
from fingerpost import Client
from fingerpost.errors import Refused
from reference_db import Cell, Fingerprints, LocalFrame, write_fingerprint_file
from reference_db.cell import AntennaArray

FOLDER = Path("var/measured")
BANDWIDTH, CARRIER = 20e6, 5.2e9
ORIGIN_DEG = (40.5734, -105.0865)  # the campus; the corridors' own coordinates are metres in a building's plan
SNAPSHOTS = (1, 2, 4, 24)  # of each reference point in the survey
K = 9  # snapshots that kNN averages
CONFIDENCE = 0.95

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Snapshots:
    """Snapshots of one corridor: csi complex64 `[n, 1, subcarriers]`, positions float32 `[n, 2]`, points int `[n]`."""

    csi: NDArray[np.complex64]
    positions: _Floats
    points: NDArray[np.int64]

    def first_of_each_point(self, count: int) -> Snapshots:
        """At most `count` snapshots of each point."""
        rows = np.concatenate([np.flatnonzero(self.points == point)[:count] for point in np.unique(self.points)])
        return Snapshots(self.csi[rows], self.positions[rows], self.points[rows])


@dataclass(frozen=True)
class Answers:
    """Errors in metres `[users]` and whether each user is inside the stated circle; refused users are left out."""

    errors: NDArray[np.float64]
    inside: NDArray[np.bool_]
    refused: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="csu-corridors.npz")
    corridors = read_corridors(parser.parse_args().file)
    head = ["corridor, snapshots a point", "references", "tests", "Fingerpost: mean / median / p90 m"]
    head += ["inside the 95 % circle", "refused", f"kNN, k = {K}, all snapshots: mean / median / p90 m"]
    print(table(head, list(locate_corridors(corridors))))


def read_corridors(file: Path) -> dict[str, tuple[Snapshots, Snapshots]]:
    """Survey and test of each corridor. Positions are metres from the corridor's first point."""
    with np.load(file) as arrays:
        data = {name: arrays[name] for name in ("csi", "positions", "path", "location", "test")}
    corridors = {}
    for path in np.unique(data["path"]):
        here = data["path"] == path
        origin = data["positions"][here][0]

        def select(rows: NDArray[np.bool_], origin: _Floats = origin) -> Snapshots:
            csi = np.ascontiguousarray(data["csi"][rows][:, None], np.complex64)
            return Snapshots(csi, (data["positions"][rows] - origin).astype(np.float32), data["location"][rows])

        corridors[f"corridor-{path}"] = select(here & ~data["test"]), select(here & data["test"])
    return corridors


def locate_corridors(corridors: dict[str, tuple[Snapshots, Snapshots]]) -> Iterator[list[str]]:
    """The rows of the table."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    cells = {}
    for name, (survey, _) in corridors.items():
        for count in SNAPSHOTS:
            references = survey.first_of_each_point(count)
            cells[name, count] = references
            import_cell(describe_cell(f"{name}-{count}", survey), references)
    with running_service(FOLDER / "database") as url, Client(url) as client:
        for (name, count), references in cells.items():
            survey, test = corridors[name]
            answers = locate_users(client, describe_cell(f"{name}-{count}", survey), test)
            knn = errors_of_knn(survey, test)
            yield [
                f"{name}, {count}",
                str(len(references.csi)),
                str(len(test.csi)),
                describe(answers.errors),
                f"{answers.inside.mean():.0%}",
                str(answers.refused),
                describe(knn),
            ]


def describe_cell(cell_id: str, survey: Snapshots) -> Cell:
    """Nothing is known of the radios' clocks, nor where the access point is."""
    latitude, longitude = ORIGIN_DEG
    return Cell(
        cell_id=cell_id,
        latitude_deg=latitude,
        longitude_deg=longitude,
        height=0.0,
        yaw=0.0,
        array=AntennaArray(rows=1, columns=1),
        carrier_frequency=CARRIER,
        bandwidth=BANDWIDTH,
        subcarriers=survey.csi.shape[2],
    )


def import_cell(cell: Cell, references: Snapshots) -> None:
    file = FOLDER / f"{cell.cell_id}.safetensors"
    count = len(references.csi)
    fingerprints = Fingerprints(
        csi=references.csi,
        positions=references.positions,
        times=np.zeros(count),
        sigmas=np.full(count, 0.05, np.float32),
    )
    write_fingerprint_file(file, cell, fingerprints)
    command = [FINGERPOST, "cells", "import", cell.cell_id, file, "--database", FOLDER / "database"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def locate_users(client: Client, cell: Cell, users: Snapshots) -> Answers:
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    errors, inside, refused = [], [], 0
    for csi, truth in zip(users.csi, users.positions, strict=True):
        try:
            estimate = client.locate(cell.cell_id, csi)
        except Refused:
            refused += 1
            continue
        point = estimate.location_estimate.point
        error = float(np.linalg.norm(np.array(frame.to_local(point.lat, point.lon)) - truth))
        errors.append(error)
        inside.append(error <= estimate.h_accuracy)
    return Answers(np.array(errors), np.array(inside, bool), refused)


def errors_of_knn(survey: Snapshots, test: Snapshots) -> NDArray[np.float64]:
    """Errors in metres `[users]` of the mean position of the K snapshots with the most similar amplitudes."""
    known, asked = (np.abs(one.csi[:, 0]) for one in (survey, test))
    known, asked = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (known, asked))
    nearest = np.argsort(-(asked @ known.T), axis=1)[:, :K]
    return np.asarray(np.linalg.norm(survey.positions[nearest].mean(1) - test.positions, axis=1), np.float64)


def describe(errors: NDArray[np.float64]) -> str:
    if not len(errors):
        return "-"
    return f"{errors.mean():.2f} / {np.median(errors):.2f} / {np.percentile(errors, 90):.2f}"


if __name__ == "__main__":
    main()
