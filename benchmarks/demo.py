"""The main job, watched: 400 users of a city that the model never saw, located over real HTTP.

``python -m benchmarks.demo`` imports the two shipped cells of florence, starts the service on a free port, posts every
held-out user's CSI with a GNSS fix of 1 m (1 sigma an axis), and compares the answers with the truth, with the fix
itself and with the best weighted kNN over the same fix's neighbourhood. It exits with 1 when Fingerpost is no better.
``--serve`` leaves the service running instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from reference_db import LocalFrame, PositionIndex, read_fingerprint_file
from reference_db.knn import every_variant
from service.client import request_of

CELLS = ("florence-0000", "florence-0001")
DATA = Path(__file__).parent / "data"
FOLDER = Path("var/demo")
PICTURE = FOLDER / "demo.png"
GNSS_SIGMA_M = 1.0
NEIGHBOURS = 64
SEED = 7
FINGERPOST = Path(sys.executable).with_name("fingerpost")


@dataclass(frozen=True)
class CellResult:
    """Positions float [users, 2] in metres from the BS; radii of the stated 95 % circles; seconds a request."""

    cell: str
    references: NDArray[np.float32]
    truth: NDArray[np.float32]
    gnss: NDArray[np.float64]
    fingerpost: NDArray[np.float64]
    radii: NDArray[np.float64]
    latencies: NDArray[np.float64]
    knn: dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Locate users of two florence cells through a real service.")
    parser.add_argument("--serve", action="store_true", help="leave the service running on port 8080")
    serve = parser.parse_args().serve
    import_cells()
    if serve:
        os.execv(FINGERPOST, ["fingerpost", "serve", "--database", str(FOLDER / "database")])
    with running_service() as url:
        results = [locate_cell(url, cell) for cell in CELLS]
    draw(results, PICTURE)
    sys.exit(report(results))


def import_cells() -> None:
    """Imports both cells as an operator would, into a database of the demo's own."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for cell in CELLS:
        print(f"demo: importing {cell} (2,000 fingerprints) and calibrating its uncertainty")
        file = DATA / f"{cell}-references.safetensors"
        command = [FINGERPOST, "cells", "import", cell, file, "--database", FOLDER / "database"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def running_service() -> Iterator[str]:
    """A server process of its own on a port that the system chose; its address. Stopped with SIGTERM."""
    command = [FINGERPOST, "serve", "--port", "0", "--database", FOLDER / "database"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "serving at " not in line:
            raise SystemExit("demo: the service did not start; its words are above")
        yield line.split("serving at ")[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def locate_cell(url: str, cell_id: str) -> CellResult:
    """Posts the cell's held-out users one after the other."""
    cell, users = read_fingerprint_file(DATA / f"{cell_id}-users.safetensors")
    _, references = read_fingerprint_file(DATA / f"{cell_id}-references.safetensors")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    rng = np.random.default_rng([SEED, *cell_id.encode()])
    gnss = users.positions + rng.normal(0.0, GNSS_SIGMA_M, users.positions.shape)

    located, radii, latencies = [], [], []
    with httpx.Client(base_url=url, timeout=30) as client:
        for csi, (east, north) in zip(users.csi, gnss.tolist(), strict=True):
            lat, lon = frame.to_wgs84(east, north)
            body = request_of(cell_id, csi, {"lat": lat, "lon": lon, "hAccuracy": GNSS_SIGMA_M})
            started = time.perf_counter()
            response = client.post("/locate", json=body)
            latencies.append(time.perf_counter() - started)
            answer = response.raise_for_status().json()
            point = answer["locationEstimate"]["point"]
            located.append(frame.to_local(point["lat"], point["lon"]))
            radii.append(answer["hAccuracy"])

    nearest, _ = PositionIndex(references.positions).nearest(gnss.astype(np.float32), NEIGHBOURS)
    rivals = every_variant(users.csi, references.csi[nearest], references.positions[nearest])
    return CellResult(
        cell=cell_id,
        references=references.positions,
        truth=users.positions,
        gnss=gnss,
        fingerpost=np.array(located),
        radii=np.array(radii),
        latencies=np.array(latencies),
        knn={f"{feature}, k={k}": points for (feature, k), points in rivals.items()},
    )


def errors(points: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(points - truth, axis=1), np.float64)


def report(results: list[CellResult]) -> int:
    """Prints the table and the closing line; the exit status says whether Fingerpost won."""
    best = min(results[0].knn, key=lambda name: np.mean([errors(r.knn[name], r.truth).mean() for r in results]))
    table = Table("cell", "users", "who", "mean", "median", "p90", title="error in metres")
    for result in results:
        rows = {"Fingerpost": result.fingerpost, f"kNN ({best})": result.knn[best], "GNSS fix": result.gnss}
        for name, points in rows.items():
            error = errors(points, result.truth)
            figures = (f"{figure:.2f}" for figure in (error.mean(), np.median(error), np.percentile(error, 90)))
            table.add_row(result.cell, str(len(error)), name, *figures)
    Console().print(table)

    def pooled(points: list[NDArray[np.floating]]) -> NDArray[np.float64]:
        return np.concatenate([errors(p, r.truth) for p, r in zip(points, results, strict=True)])

    mine = pooled([r.fingerpost for r in results])
    inside = float((mine <= np.concatenate([r.radii for r in results])).mean())
    a, b = mine.mean(), pooled([r.knn[best] for r in results]).mean()
    c = pooled([r.gnss for r in results]).mean()
    d = 1000 * np.median(np.concatenate([r.latencies for r in results]))
    print(f"demo: {100 * inside:.1f} % of the users are inside their stated 95 % circle; picture: {PICTURE}")
    print(f"demo: mean error {a:.2f} m, best kNN {b:.2f} m, GNSS {c:.2f} m, p50 latency {d:.1f} ms")
    return 0 if a < b else 1


def draw(results: list[CellResult], path: Path) -> None:
    """Estimates against truth on each cell's map."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8 * len(results), 7.5), layout="constrained")
    for axes, result in zip(figure.subplots(1, len(results)), results, strict=True):
        axes.scatter(*result.references.T, s=2, color="0.85", label="fingerprints")
        axes.scatter(*result.gnss.T, s=9, color="tab:orange", alpha=0.5, label="GNSS fix")
        for truth, estimate in zip(result.truth, result.fingerpost, strict=True):
            axes.plot(*np.stack([truth, estimate]).T, color="tab:blue", linewidth=0.8)
        axes.scatter(*result.truth.T, s=14, facecolors="none", edgecolors="black", label="truth")
        axes.scatter(*result.fingerpost.T, s=7, color="tab:blue", label="Fingerpost")
        mean = errors(result.fingerpost, result.truth).mean()
        axes.set(title=f"{result.cell}: mean error {mean:.2f} m", xlabel="east of the BS [m]", ylabel="north [m]")
        axes.set_aspect("equal")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
