"""Tracks over HTTP, in cells of a city that no model has learned: ``python -m benchmarks.tracks``.

Walks of the test cells of ``models/tracks/recipes/tracks.yaml``, by the radio of the street, are cut into tracks and
sent to ``POST /locate/trajectory`` of a real server that has the cells' fingerprints. Beside it stand each snapshot
alone, by the same server, and a Kalman smoother over these single answers and their ellipses: with the motion of the
artifact's own smoother, which was chosen on other streets, and with the one that is best in hindsight. Needs the
trainer and the path tables that `fingerpost-train experiment tracks` names. Writes
``benchmarks/results/tracks_http.md``.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo import FINGERPOST, is_inside, running_service
from benchmarks.markdown import table
from fingerpost import Client, Refused
from fingerpost.wire import CoarsePosition
from fingerpost.wire_shapes import Local2dPointUncertaintyEllipse
from models.artifact import MateformerManifest, load_artifact
from models.artifact.smoother import Motion, smooth
from models.mateformer.conditions import STREET
from models.radio.path_table import PathTable
from models.radio.survey import LABEL_SIGMA_M, describe_cell
from models.radio.walks import SNAPSHOTS
from models.tracks.evaluation import SPEEDS, TRUSTS, WANDERS, group_cells
from models.tracks.recipe import ARTIFACTS, TracksRecipe
from models.tracks.training import list_cells, tables_of
from models.tracks.walked import Seen, draw_fixes, impair_csi, observe_standing, observe_walkers
from reference_db import Fingerprints
from reference_db.fingerprint_file import write_fingerprint_file

RECIPE = Path(__file__).parents[1] / "models/tracks/recipes/tracks.yaml"
FOLDER, RESULT = Path("var/bench/tracks"), Path(__file__).parent / "results/tracks_http.md"
CONDITIONS: dict[str, float | None] = {"no fix": None, "fix of 1 m": 1.0, "fix of 3 m": 3.0, "fix of 10 m": 10.0}
NOT_BELIEVED = ("CSI_FOREIGN", "CSI_LEVEL_IMPLAUSIBLE")
COMMON = 0.5  # share of a fix's variance that is one error of the whole walk
COUNTS = (2, 5, 10)
HEAD = [
    "snapshots",
    "tracks",
    "each alone",
    "Kalman smoother",
    "in hindsight",
    "together",
    "to alone",
    "to the smoother",
    "in hindsight",
    "newest: alone",
    "together",
    "in their 95 % ellipse",
    "semi-major axis",
    "ms",
    "refused",
    "in part alone",
]


@dataclass(frozen=True)
class Walks:
    """Of one cell: CSI `[w, t, antennas, subcarriers]`, truth and fixes `[w, t, 2]` metres."""

    cell_id: str
    csi: NDArray[np.complex64]
    truth: NDArray[np.float32]
    fixes: NDArray[np.float32]
    accuracy: float | None

    def coarse(self, walk: int, snapshots: range) -> list[CoarsePosition] | None:
        if self.accuracy is None:
            return None
        places = self.fixes[walk, snapshots].tolist()
        return [CoarsePosition(x=x, y=y, h_accuracy=self.accuracy) for x, y in places]


@dataclass(frozen=True)
class Answered:
    """The points of one request: where, `[t, 2]`, with covariances `[t, 2, 2]` of their 95 % ellipses, and whether each
    holds the truth. `together`: snapshots that were located with each. None in place of it: refused.
    """

    positions: NDArray[np.float64]
    covariances: NDArray[np.float64]
    inside: NDArray[np.bool_]
    semi_major: NDArray[np.float64]
    together: NDArray[np.int64]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Tracks over HTTP in a held-out city.")
    parser.add_argument("--paths", type=Path, default=Path("runs/paths"), help="folder of the path tables")
    paths = parser.parse_args().paths
    recipe = TracksRecipe.load(RECIPE)
    contract = load_artifact(ARTIFACTS / recipe.artifact, MateformerManifest).manifest.tracks
    assert contract is not None
    motion = contract.motion
    cells = list_cells(recipe, "test")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for cell in cells:
        import_cell(recipe, cell, paths)
    parts = []
    with running_service(FOLDER / "database") as url, Client(url) as client:
        for group, some in group_cells(dict.fromkeys(cells)).items():
            rows = [
                [label if i == 0 else "", *row]
                for label, accuracy in CONDITIONS.items()
                for i, row in enumerate(
                    compare(client, motion, [observe(recipe, cell, paths, accuracy) for cell in some], COUNTS)
                )
            ]
            parts.append(table([group, *HEAD], rows))
            print(parts[-1], flush=True)
    RESULT.write_text("\n\n".join([describe(recipe), *parts]) + "\n")


def describe(recipe: TracksRecipe) -> str:
    cells, references = ", ".join(recipe.cells.test), recipe.cells.references
    return f"""# Tracks over HTTP

    python -m benchmarks.tracks

Mean errors and semi-major axes in metres; milliseconds of the median request, one at a time. Cells {cells} of a city
that neither network has learned, {references:,} fingerprints each. Walks of {SNAPSHOTS} snapshots, 0.5 to 3 m apart,
are cut into tracks. Survey and users by the radio of the street: {STREET.snr_db:g} dB, sampling times within
± {1e9 * STREET.timing_s:g} ns, random phase. Half of the variance of a fix is one error of the whole walk. The smoother
gets the single answers with their calibrated ellipses: with the motion of the artifact's own smoother, chosen on other
streets, and with the one that is best for the row in hindsight, which no user of a smoother could know. Refused: tracks
with a snapshot whose CSI the service took for another cell's or whose level it took for wrong; they count for no
column. In part alone: tracks with a snapshot that was located alone; they count as answered."""


def import_cell(recipe: TracksRecipe, cell: tuple[str, int], paths: Path) -> None:
    """Imports the cell as an operator would, by the command line."""
    survey = PathTable.load(tables_of(paths, cell)[0])
    radio, rng = recipe.radio, np.random.default_rng([*cell[0].encode(), cell[1], 0])
    standing = observe_standing(survey, radio, survey.site.yaw, recipe.cells.references)
    csi = impair_csi(standing.csi[None], STREET, radio.bandwidth, rng)[0]
    sto = STREET.timing_s / math.sqrt(3)
    described = describe_cell(survey.site, radio.array, radio.subcarriers, radio.bandwidth)
    described = described.model_copy(update={"survey_sto": sto, "user_sto": sto})
    n = len(csi)
    fingerprints = Fingerprints(csi, standing.positions, np.zeros(n), np.full(n, LABEL_SIGMA_M, np.float32))
    file = FOLDER / f"{described.cell_id}.safetensors"
    write_fingerprint_file(file, described, fingerprints)
    command = [FINGERPOST, "cells", "import", described.cell_id, file, "--database", FOLDER / "database"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"imported {described.cell_id}", file=sys.stderr)


def observe(recipe: TracksRecipe, cell: tuple[str, int], paths: Path, accuracy: float | None) -> Walks:
    table_of_walks = PathTable.load(tables_of(paths, cell)[1])
    site, radio = table_of_walks.site, recipe.radio
    rng = np.random.default_rng([*cell[0].encode(), cell[1], 1])
    walkers = observe_walkers(table_of_walks, radio, site.yaw)
    csi = impair_csi(walkers.csi, STREET, radio.bandwidth, rng)
    fixes = draw_fixes(walkers.positions, Seen(STREET, accuracy, COMMON), rng)
    return Walks(
        describe_cell(site, radio.array, radio.subcarriers, radio.bandwidth).cell_id,
        csi,
        walkers.positions,
        fixes,
        accuracy,
    )


def compare(client: Client, motion: Motion, cells: Sequence[Walks], counts: Sequence[int]) -> list[list[str]]:
    """A row for each number of snapshots."""
    alone = [
        [locate(client, one, walk, range(i, i + 1)) for walk in range(len(one.truth)) for i in range(SNAPSHOTS)]
        for one in cells
    ]
    return [compare_tracks(client, motion, cells, alone, count) for count in counts]


def compare_tracks(
    client: Client, motion: Motion, cells: Sequence[Walks], alone: Sequence[Sequence[Answered | None]], count: int
) -> list[str]:
    truth, single, joint, refused = [], [], [], 0
    for one, answers in zip(cells, alone, strict=True):
        for walk, first in product(range(len(one.truth)), range(0, SNAPSHOTS - count + 1, count)):
            snapshots = range(first, first + count)
            parts = [answers[SNAPSHOTS * walk + i] for i in snapshots]
            found = locate(client, one, walk, snapshots)
            if found is None or None in parts:
                refused += 1
                continue
            truth.append(one.truth[walk, snapshots])
            single.append([part for part in parts if part is not None])
            joint.append(found)
    true = np.array(truth, np.float64)
    positions = np.array([[part.positions[0] for part in parts] for parts in single])
    covariances = np.array([[part.covariances[0] for part in parts] for parts in single])
    found_at = {
        "alone": positions,
        "smoother": smooth_evenly(positions, covariances, motion),
        "hindsight": smooth_best(positions, covariances, true),
        "together": np.array([one.positions for one in joint]),
    }
    off = {name: np.linalg.norm(at - true, axis=-1) for name, at in found_at.items()}
    means = {name: one.mean() for name, one in off.items()}
    alone_axis, alone_s = (
        [getattr(part, name) for parts in single for part in parts] for name in ("semi_major", "seconds")
    )
    axis, seconds = ([getattr(one, name) for one in joint] for name in ("semi_major", "seconds"))
    return [
        str(count),
        str(len(true)),
        *(f"{means[name]:.2f}" for name in off),
        *(f"{100 * (means['together'] / means[name] - 1):+.0f} %" for name in ("alone", "smoother", "hindsight")),
        *(f"{off[name][:, -1].mean():.2f}" for name in ("alone", "together")),
        f"{100 * np.mean([one.inside for one in joint]):.1f} %",
        f"{np.mean(alone_axis):.1f} -> {np.mean(axis):.1f}",
        f"{1e3 * np.median(alone_s):.1f} -> {1e3 * np.median(seconds):.1f}",
        str(refused),
        str(sum(bool((one.together < count).any()) for one in joint)),
    ]


def smooth_evenly(
    positions: NDArray[np.float64], covariances: NDArray[np.float64], motion: Motion
) -> NDArray[np.float64]:
    """Tracks `[n, t, 2]` whose snapshots are equally far apart in time."""
    elapsed = np.broadcast_to(np.arange(positions.shape[1], dtype=np.float64), positions.shape[:2])
    return smooth(positions, covariances, elapsed, motion).positions


def smooth_best(
    positions: NDArray[np.float64], covariances: NDArray[np.float64], truth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By the motion whose mean error is smallest: no user of a smoother could know it."""
    motions = (Motion(speed=s, wander=w, trust=t) for s, w, t in product(SPEEDS, WANDERS, TRUSTS))
    answers = (smooth_evenly(positions, covariances, motion) for motion in motions)
    return min(answers, key=lambda at: float(np.linalg.norm(at - truth, axis=-1).mean()))


def locate(client: Client, walks: Walks, walk: int, snapshots: range) -> Answered | None:
    """None where the service does not believe a snapshot. Raises any other refusal."""
    started = time.perf_counter()
    try:
        answer = client.locate_trajectory(
            walks.cell_id, walks.csi[walk, snapshots], coarse_positions=walks.coarse(walk, snapshots)
        )
    except Refused as refused:
        if refused.problem.cause not in NOT_BELIEVED:
            raise
        return None
    seconds = time.perf_counter() - started
    locals_, counts = [], []
    for point in answer.points:
        assert isinstance(point.local_location_estimate, Local2dPointUncertaintyEllipse)
        assert point.provenance is not None
        locals_.append(point.local_location_estimate)
        counts.append(point.provenance.snapshots or 1)
    return Answered(
        np.array([(one.point.x, one.point.y) for one in locals_]),
        np.array([covariance_of(one) for one in locals_]),
        np.array([is_inside(one, at) for one, at in zip(locals_, walks.truth[walk, snapshots], strict=True)]),
        np.array([one.uncertainty_ellipse.semi_major for one in locals_]),
        np.array(counts),
        seconds,
    )


def covariance_of(estimate: Local2dPointUncertaintyEllipse) -> NDArray[np.float64]:
    """Of a normal distribution with this 95 % ellipse, `[2, 2]` square metres."""
    ellipse = estimate.uncertainty_ellipse
    azimuth = math.radians(ellipse.orientation_major)
    axes = np.array([[math.sin(azimuth), math.cos(azimuth)], [math.cos(azimuth), -math.sin(azimuth)]])
    spread = np.square([ellipse.semi_major, max(ellipse.semi_minor, 1e-3)]) / 5.991
    return np.asarray(axes.T @ np.diag(spread) @ axes, np.float64)


if __name__ == "__main__":
    main()
