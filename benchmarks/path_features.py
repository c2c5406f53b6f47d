"""Path features from LWLM's heads beside the classical estimates that the service gives SCADF-MoE.

``python -m benchmarks.path_features`` takes the points of the demo's first 50 trajectories in the street `munich-0202`,
traces their paths at 2.6, 3.5, 6 and 28 GHz, and observes each point by 32 antennas with 64 subcarriers over 50 MHz,
clean and with 20 dB of noise and a random phase. Tracing needs the trainer's extra and a minute; later runs find the
path tables in `var/bench/paths`.

The features of the strongest path are the truth: they are what SCADF-MoE has learned. LWLM's heads estimate the *first*
path, so the last columns compare them with that. Errors of AoD and range are medians, with the mean in brackets.
"Model" is the mean error of the shipped SCADF-MoE over the points of all trajectories, with AoD and range from either
source, the gain from the classical estimator and the AoA as the direction back. It was trained at 2.6, 6 and 28 GHz
with both exact-but-noisy and classical features; LWLM serves carriers from 3 to 4 GHz.

The service keeps the classical estimates, which are those of the path that SCADF-MoE has learned: see "LWLM's features
for the others" in `docs/explain/accuracy.md`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.demo_trajectories import SUFFIX
from benchmarks.markdown import table
from models.artifact import LwlmManifest, TrajectoryManifest, load_artifact
from models.radio.channel import synthesise
from models.radio.city import City
from models.radio.first_path import first_paths
from models.radio.front_end import Radio
from models.radio.impairments import Impairments, impair
from models.radio.path_table import PathTable
from models.radio.siting import USER_HEIGHT_M, draw_site
from models.radio.tracing import band_folder, table_path
from models.scadf_moe.path_features import exact_path_features
from reference_db import Cell, read_fingerprint_file
from reference_db.path_features import USER_HEIGHT, estimate_path_features
from service.inference.lwlm_session import LwlmSession
from service.inference.trajectory_session import TrajectorySession

ARTIFACTS = Path("models/artifacts")
DATA = Path(__file__).parent / "data"
RESULT = Path(__file__).parent / "results" / "path_features.md"
TABLES = Path("var/bench/paths")
CITY, SEED, VERTICES, POINTS = "munich", 202, 5, 250
CARRIERS = (2.6e9, 3.5e9, 6e9, 28e9)
RADIOS = {"clean": Impairments(), "20 dB, random phase": Impairments(snr_db=20.0, phase=True)}
HEAD = [
    "carrier",
    "radio",
    "path features",
    "AoD, line of sight (degrees)",
    "AoD, none",
    "range, line of sight (m)",
    "range, none",
    "model, line of sight (m)",
    "model, none",
    "AoD of the first path, none",
    "range of the first path, none",
]

_Features = NDArray[np.float64]  # [n, 4]: AoD, AoA, range, gain


class Errors(NamedTuple):
    """Absolute errors of each point: radians, metres, and metres of the model's answer."""

    aod: NDArray[np.float64]
    range: NDArray[np.float64]
    model: NDArray[np.float64]


def trace_points(cell: Cell, positions: NDArray[np.float32], folder: Path) -> list[PathTable]:
    """The path tables of points `[n, 2]` (metres from the base station), one for each carrier."""
    files = [table_path(band_folder(folder, carrier), CITY, SEED) for carrier in CARRIERS]
    if not all(file.exists() for file in files):
        city = City(CITY)
        site = draw_site(city, CITY, SEED, cell.carrier_frequency)
        places = positions + np.array(site.bs[:2])
        ground, _ = city.ground(places)
        standing = np.column_stack([places, ground + USER_HEIGHT_M])
        for carrier, file in zip(CARRIERS, files, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            city.trace(replace(site, carrier_frequency=carrier), standing).save(file)
    return [PathTable.load(file) for file in files]


def measure_by_heads(session: LwlmSession, csi: NDArray[np.complex64], cell: Cell, classical: _Features) -> _Features:
    """Path features with AoD and range of LWLM's first path, and the gain of the classical estimates."""
    pairs = np.ascontiguousarray(csi)[..., None].view(np.float32)
    configuration = np.full((len(csi), 2), (cell.bandwidth, cell.height - USER_HEIGHT), np.float32)
    measured = session.submit(session.measure, pairs, configuration).result()
    departure = cell.yaw + measured.aoa[:, 0].astype(np.float64)
    return np.column_stack([departure, departure + math.pi, measured.range[:, 0], classical[:, 3]])


def find_errors(
    features: _Features,
    truth: _Features,
    csi: NDArray[np.complex64],
    positions: NDArray[np.float32],
    model: TrajectorySession,
) -> Errors:
    pairs = np.ascontiguousarray(csi)[..., None].view(np.float32).reshape(-1, VERTICES, *csi.shape[1:], 2)
    given = np.column_stack([wrap(features[:, :2]), features[:, 2:]]).astype(np.float32).reshape(-1, VERTICES, 4)
    points = model.submit(model.locate, pairs, given).result()[:, :VERTICES].reshape(-1, 2)
    return Errors(
        np.abs(wrap(features[:, 0] - truth[:, 0])),
        np.abs(features[:, 2] - truth[:, 2]),
        np.linalg.norm(points - positions, axis=1).astype(np.float64),
    )


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def compare(tables: list[PathTable], cell: Cell, lwlm: LwlmSession, model: TrajectorySession) -> Iterator[list[str]]:
    """A row for each carrier, radio and source of path features."""
    reached = np.all([one.reached for one in tables], axis=0).reshape(-1, VERTICES).all(axis=1).repeat(VERTICES)
    for path_table in tables:
        radio = Radio(array=cell.array, subcarriers=cell.subcarriers, bandwidth=cell.bandwidth)
        clean = synthesise(path_table, radio, cell.yaw)[reached]
        exact, positions = exact_path_features(path_table)[reached], path_table.users[reached, :2]
        first = first_paths(path_table)
        first_features = np.column_stack([first.azimuth, first.azimuth, first.range, first.range])[reached]
        direct = path_table.line_of_sight[reached]
        for name, impairments in RADIOS.items():
            generator = torch.Generator().manual_seed(SEED)
            csi = impair(torch.from_numpy(clean), impairments, cell.bandwidth, generator).numpy()
            classical = estimate_path_features(csi, cell)
            sources = {
                "exact": exact,
                "classical": classical,
                "LWLM": measure_by_heads(lwlm, csi, cell, classical),
            }
            for source, features in sources.items():
                errors = find_errors(features, exact, csi, positions, model)
                early = find_errors(features, first_features, csi, positions, model)
                row = [
                    f"{path_table.site.carrier_frequency / 1e9:g} GHz ({1 - direct.mean():.0%} without line of sight)",
                    name,
                    source,
                    *(describe(np.degrees(errors.aod[part])) for part in (direct, ~direct)),
                    *(describe(errors.range[part]) for part in (direct, ~direct)),
                    *(f"{errors.model[part].mean():.2f}" for part in (direct, ~direct)),
                    describe(np.degrees(early.aod[~direct])),
                    describe(early.range[~direct]),
                ]
                print(row, flush=True)
                yield row


def describe(errors: NDArray[np.float64]) -> str:
    return f"{np.median(errors):.2f} ({errors.mean():.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare sources of path features.")
    parser.add_argument("--artifact", type=Path, default=ARTIFACTS / "lwlm", help="LWLM's artifact")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lwlm = LwlmSession(load_artifact(arguments.artifact, LwlmManifest), 1, ["CPUExecutionProvider"])
    model = TrajectorySession(load_artifact(ARTIFACTS / "scadf-moe", TrajectoryManifest), 1, ["CPUExecutionProvider"])
    cell, users = read_fingerprint_file(DATA / f"{CITY}-{SEED:04d}{SUFFIX}")
    tables = trace_points(cell, users.positions[:POINTS], TABLES)
    rows = list(compare(tables, cell, lwlm, model))
    lwlm.close()
    model.close()
    text = (__doc__ or "").partition("\n")[2].strip()
    RESULT.write_text(f"    python -m benchmarks.path_features\n\n{text}\n\n{table(HEAD, rows)}\n")


if __name__ == "__main__":
    main()
