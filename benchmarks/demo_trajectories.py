"""The demo's second part: short trajectories, located through HTTP where an artifact for them is shipped.

Each file ``benchmarks/data/<cell>-trajectories.safetensors`` holds fingerprints, the points of a trajectory after each
other, at least one of them at a place that the network never saw; ``<cell>-cues.npy`` is what a base station measured
beside them. `fingerpost-train export --shown` writes both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from reference_db import read_fingerprint_file
from service.client import request_of, trajectory_request_of
from service.settings import Settings

SUFFIX, CUES_SUFFIX = "-trajectories.safetensors", "-cues.npy"


@dataclass(frozen=True)
class TrajectoryResult:
    """Errors in metres, and which of them were inside the stated circle."""

    cell: str
    trajectories: int
    vertices: int
    points: dict[str, NDArray[np.float64]]  # by where the cues came from
    centroids: dict[str, NDArray[np.float64]]
    inside: dict[str, NDArray[np.bool_]]  # of the points
    track: NDArray[np.float64]  # the last point of each, posted one by one with a trackId

    def lines(self) -> Iterator[str]:
        what = f"{self.trajectories} trajectories of {self.vertices} points in {self.cell}"
        for source, errors in self.points.items():
            centroid, inside = self.centroids[source].mean(), 100 * self.inside[source].mean()
            yield (
                f"{what}, cues {source}: mean error {errors.mean():.2f} m, of the centroid {centroid:.2f} m; "
                f"{inside:.1f} % inside their stated 95 % circle"
            )
        yield f"{what}, one by one with a trackId: mean error of the last point {self.track.mean():.2f} m"


def shown_trajectories(folder: Path) -> list[Path]:
    """The files to locate; none where no artifact for trajectories is shipped."""
    return [] if Settings().trajectory_artifact_directory is None else sorted(folder.glob(f"*{SUFFIX}"))


def locate_trajectories(url: str, file: Path) -> TrajectoryResult:
    """Posts a file's trajectories with the cues measured and without, and as tracks; its cell must be there."""
    cell, users = read_fingerprint_file(file)
    measured = np.load(file.with_name(file.name.replace(SUFFIX, CUES_SUFFIX)), allow_pickle=False)
    with httpx.Client(base_url=url, timeout=30) as client:
        models = client.get("/models").raise_for_status().json()["models"]
        (vertices,) = (model["vertices"] for model in models if model["family"] == "scadf-moe")
        truth = users.positions.reshape(-1, vertices, 2)
        csi = users.csi.reshape(-1, vertices, *users.csi.shape[1:])
        cues = [[_wire(one) for one in rows] for rows in measured.reshape(-1, vertices, 4).tolist()]
        answers = {
            "measured": [
                _post(client, "/locate/trajectory", trajectory_request_of(cell.cell_id, *sent))
                for sent in zip(csi, cues, strict=True)
            ],
            "from the CSI": [
                _post(client, "/locate/trajectory", trajectory_request_of(cell.cell_id, snapshots)) for snapshots in csi
            ],
        }
        last = [_follow(client, cell.cell_id, f"demo-{number}", snapshots) for number, snapshots in enumerate(csi)]
    errors = {
        source: np.array([_errors(*pair) for pair in zip(all_, truth, strict=True)]) for source, all_ in answers.items()
    }
    circles = {
        source: np.array([[point["hAccuracy"] for point in answer["points"]] for answer in all_])
        for source, all_ in answers.items()
    }
    return TrajectoryResult(
        cell=cell.cell_id,
        trajectories=len(truth),
        vertices=vertices,
        points={source: off[:, :-1].ravel() for source, off in errors.items()},
        centroids={source: off[:, -1] for source, off in errors.items()},
        inside={source: (off[:, :-1] <= circles[source]).ravel() for source, off in errors.items()},
        track=np.linalg.norm(np.array(last) - truth[:, -1], axis=1).astype(np.float64),
    )


def _wire(cues: list[float]) -> dict[str, float]:
    aod, aoa, distance, gain = cues
    degrees = {"aodDeg": math.degrees(aod), "aoaDeg": math.degrees(aoa)}
    return degrees | {"distance": distance, "gainDb": 10 * math.log10(gain)}


def _follow(client: httpx.Client, cell_id: str, track_id: str, csi: NDArray[np.complex64]) -> tuple[float, float]:
    """Where a user is after its last snapshot; in a cell without fingerprints the first ones have no answer."""
    for snapshot in csi:
        response = client.post("/locate", json=request_of(cell_id, snapshot) | {"trackId": track_id})
    return _point(response.raise_for_status().json())


def _errors(answer: dict[str, Any], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Metres: of the points, then of the centroid."""
    found = np.array([_point(place) for place in (*answer["points"], answer["centroid"])])
    return np.asarray(np.linalg.norm(found - np.vstack([truth, truth.mean(axis=0)]), axis=1), np.float64)


def _point(place: dict[str, Any]) -> tuple[float, float]:
    point = place["localLocationEstimate"]["point"]
    return point["x"], point["y"]


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(path, json=body).raise_for_status().json()
    return answer
