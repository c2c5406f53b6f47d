"""Locates 500 users of a city that is not in the training data, over real HTTP.

``python -m benchmarks.demo`` imports three shipped cells of florence, starts the service on a free port, and posts
every held-out user's CSI three times: without a coarse position, with a GNSS fix of 10 m, and with one of 1 m (1 sigma
on each axis). It compares the answers with the truth, with the fix itself and with the best weighted kNN, and exits
with 1 if Fingerpost is not better. It also locates users who walk by several snapshots together; trajectories in a
street that a model has learned, if an artifact for them is shipped; and users whom several base stations without
fingerprints hear, if an artifact that measures is shipped. ``--serve`` leaves the service running instead.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.demo_stations import locate_by_stations, shown_streets
from benchmarks.demo_trajectories import locate_trajectories, shown_trajectories
from benchmarks.demo_walks import locate_walks, shown_walks
from fingerpost import Client, Refused
from fingerpost.wire import CoarsePosition
from fingerpost.wire_shapes import Local2dPointUncertaintyEllipse
from reference_db import LocalFrame, read_fingerprint_file
from reference_db.cell_description import write_description
from reference_db.knn import csi_distances_by_feature, knn_baselines

# 32 antennas at 3.5 GHz in sight of all users, and 4 x 4 antennas at 2.6 GHz, of which most users are out of sight.
CELLS = ("florence-0000", "florence-0001", "florence-nlos-0000")
FIXES: dict[str, float | None] = {"no GNSS": None, "GNSS 10 m": 10.0, "GNSS 1 m": 1.0}  # 1 sigma on each axis, metres
HEADLINE = "GNSS 1 m"
DATA = Path(__file__).parent / "data"
FOLDER = Path("var/demo")
PICTURE = FOLDER / "demo.png"
NEIGHBOURS = 64
SEED = 7
FINGERPOST = Path(sys.executable).with_name("fingerpost")


@dataclass(frozen=True)
class CellResult:
    """Positions float [users, 2] in metres from the BS of all users who were answered, whether they are inside their
    stated 95 % ellipses, and seconds of each request. `refused` users were taken for users of another cell.
    """

    cell: str
    references: NDArray[np.float32]
    truth: NDArray[np.float32]
    gnss: NDArray[np.float64] | None
    fingerpost: NDArray[np.float64]
    inside: NDArray[np.bool_]
    refused: int
    latencies: NDArray[np.float64]
    knn: dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Locate users of three florence cells through a real service.")
    parser.add_argument("--serve", action="store_true", help="leave the service running on port 8080")
    serve = parser.parse_args().serve
    import_cells()
    if serve:
        os.execv(FINGERPOST, ["fingerpost", "serve", "--database", str(FOLDER / "database")])
    with running_service() as url:
        results = {fix: [locate_cell(url, cell, sigma) for cell in CELLS] for fix, sigma in FIXES.items()}
        walks = [locate_walks(url, file) for file in shown_walks(DATA)]
        trajectories = [locate_trajectories(url, file) for file in shown_trajectories(DATA)]
        streets = [locate_by_stations(url, files) for files in shown_streets(DATA)]
    draw(results, PICTURE)
    for result in (*walks, *trajectories, *streets):
        for line in result.lines():
            print(f"demo: {line}")
    sys.exit(report(results))


def import_cells() -> None:
    """Imports the cells into the demo's database by the command line."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for cell in CELLS:
        file = DATA / f"{cell}-references.safetensors"
        count = len(read_fingerprint_file(file)[1].csi)
        print(f"demo: importing {cell} ({count:,} fingerprints) and calibrating its uncertainty")
        command = [FINGERPOST, "cells", "import", cell, file, "--database", FOLDER / "database"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for file in shown_trajectories(DATA):
        create_cell(file, "the model has learned this cell")
    for file in (file for files in shown_streets(DATA) for file in files):
        create_cell(file, "its base station alone locates users")


def create_cell(file: Path, reason: str) -> None:
    """Creates the cell that a fingerprint file describes, without the fingerprints."""
    cell, _ = read_fingerprint_file(file)
    print(f"demo: creating {cell.cell_id} without fingerprints: {reason}")
    described = FOLDER / f"{cell.cell_id}.json"
    described.write_text(write_description(cell))
    command = [FINGERPOST, "cells", "create", cell.cell_id, "--cell-file", described]
    subprocess.run([*command, "--database", FOLDER / "database"], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def running_service(database: Path = FOLDER / "database") -> Iterator[str]:
    """Starts a server process on a free port and yields its URL. Stops it by SIGINT."""
    command = [FINGERPOST, "serve", "--port", "0", "--database", database]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "serving at " not in line:
            raise SystemExit("demo: the service did not start; see its output above")
        yield line.split("serving at ")[1].split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def locate_cell(url: str, cell_id: str, sigma: float | None) -> CellResult:
    """Posts the cell's held-out users one after the other. `sigma`: GNSS error on each axis in metres."""
    cell, users = read_fingerprint_file(DATA / f"{cell_id}-users.safetensors")
    _, references = read_fingerprint_file(DATA / f"{cell_id}-references.safetensors")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    rng = np.random.default_rng([SEED, *cell_id.encode()])
    gnss = None if sigma is None else users.positions + rng.normal(0.0, sigma, users.positions.shape)

    located, inside, latencies, answered = [], [], [], np.ones(len(users.csi), np.bool_)
    with Client(url) as client:
        for row, csi in enumerate(users.csi):
            coarse = None
            if gnss is not None and sigma is not None:
                lat, lon = frame.to_wgs84(*gnss[row].tolist())
                coarse = CoarsePosition(lat=lat, lon=lon, h_accuracy=sigma)
            started = time.perf_counter()
            try:
                estimate = client.locate(cell_id, csi, coarse)
            except Refused as refused:
                if refused.problem.cause != "CSI_FOREIGN":
                    raise
                answered[row] = False
                continue
            latencies.append(time.perf_counter() - started)
            local = estimate.local_location_estimate
            assert isinstance(local, Local2dPointUncertaintyEllipse)
            located.append((local.point.x, local.point.y))
            inside.append(is_inside(local, users.positions[row]))

    return CellResult(
        cell=cell_id,
        references=references.positions,
        truth=users.positions[answered],
        gnss=None if gnss is None else gnss[answered],
        fingerpost=np.array(located),
        inside=np.array(inside),
        refused=int((~answered).sum()),
        latencies=np.array(latencies),
        knn=knn_baselines(
            csi_distances_by_feature(users.csi[answered], references.csi),
            references.positions,
            None if gnss is None else gnss[answered].astype(np.float32),
            sigma or 0.0,
            NEIGHBOURS,
        ),
    )


def is_inside(estimate: Local2dPointUncertaintyEllipse, truth: NDArray[np.floating]) -> bool:
    """Whether the ellipse of an estimate holds a position `[2]` in metres."""
    ellipse, azimuth = estimate.uncertainty_ellipse, math.radians(estimate.uncertainty_ellipse.orientation_major)
    east, north = float(truth[0]) - estimate.point.x, float(truth[1]) - estimate.point.y
    along = east * math.sin(azimuth) + north * math.cos(azimuth)
    across = east * math.cos(azimuth) - north * math.sin(azimuth)
    return math.hypot(along / ellipse.semi_major, across / ellipse.semi_minor) <= 1


def errors(points: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(points - truth, axis=1), np.float64)


def report(results: dict[str, list[CellResult]]) -> int:
    """Prints the table and the closing lines. Returns 0 if Fingerpost is better with every fix, else 1."""
    table = Table("fix", "cell", "users", "who", "mean", "median", "p90", title="error in metres")
    lines, won = {}, True
    for fix, cells in results.items():
        best = min(cells[0].knn, key=lambda name: np.mean([errors(r.knn[name], r.truth).mean() for r in cells]))
        for result in cells:
            rows = {"Fingerpost": result.fingerpost, f"kNN ({best})": result.knn[best], "the fix": result.gnss}
            for name, points in rows.items():
                if points is not None:
                    error = errors(points, result.truth)
                    figures = (f"{figure:.2f}" for figure in (error.mean(), np.median(error), np.percentile(error, 90)))
                    table.add_row(fix, result.cell, str(len(error)), name, *figures)
        mine, knn = pooled(cells, "fingerpost"), np.concatenate([errors(r.knn[best], r.truth) for r in cells])
        inside = 100 * float(np.concatenate([r.inside for r in cells]).mean())
        refused = sum(r.refused for r in cells)
        latency = 1000 * np.median(np.concatenate([r.latencies for r in cells]))
        gnss = f"GNSS {pooled(cells, 'gnss').mean():.2f} m, " if cells[0].gnss is not None else ""
        lines[fix] = (
            f"mean error {mine.mean():.2f} m, best kNN {knn.mean():.2f} m, {gnss}p50 latency {latency:.1f} ms",
            f"{inside:.1f} % inside their stated 95 % ellipse, {refused} of {refused + len(mine)} refused as foreign",
        )
        won &= bool(mine.mean() < knn.mean())
    Console().print(table)
    for fix, (figures, inside) in lines.items():
        if fix != HEADLINE:
            print(f"demo: {fix}: {figures}; {inside}")
    figures, inside = lines[HEADLINE]
    print(f"demo: {HEADLINE}, the paper's setting: {inside}; picture: {PICTURE}")
    print(f"demo: {figures}")
    return 0 if won else 1


def pooled(cells: list[CellResult], who: str) -> NDArray[np.float64]:
    return np.concatenate([errors(getattr(result, who), result.truth) for result in cells])


def draw(results: dict[str, list[CellResult]], path: Path) -> None:
    """Draws estimates and truth on a map of each cell, with a column for each fix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(results), 5.6 * len(CELLS)), layout="constrained")
    grid = figure.subplots(len(CELLS), len(results), squeeze=False)
    for column, (fix, cells) in zip(grid.T, results.items(), strict=True):
        for axes, result in zip(column, cells, strict=True):
            low, high = result.references.min(axis=0) - 3, result.references.max(axis=0) + 3
            axes.scatter(*result.references.T, s=2, color="0.85", label="fingerprints")
            fixes = result.truth[:0] if result.gnss is None else result.gnss
            axes.scatter(*fixes.T, s=9, color="tab:orange", alpha=0.5, label="GNSS fix")
            for truth, estimate in zip(result.truth, result.fingerpost, strict=True):
                axes.plot(*np.stack([truth, estimate]).T, color="tab:blue", linewidth=0.8)
            axes.scatter(*result.truth.T, s=14, facecolors="none", edgecolors="black", label="truth")
            axes.scatter(*result.fingerpost.T, s=7, color="tab:blue", label="Fingerpost")
            mean = errors(result.fingerpost, result.truth).mean()
            axes.set(title=f"{result.cell}, {fix}: mean error {mean:.2f} m")
            axes.set(xlabel="east of the BS [m]", ylabel="north [m]", aspect="equal")
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
