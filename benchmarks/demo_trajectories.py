"""The demo's second part: locates short trajectories over HTTP if an artifact for them is shipped.

A file ``benchmarks/data/<cell>-trajectories.safetensors`` holds fingerprints: the points of each trajectory in order,
with at least one point that is not in the training data. ``<cell>-cues.npy`` holds their path features as a base
station measures them. `fingerpost-train export --shown` writes both files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from fingerpost import Client, Refused
from fingerpost.wire import LocateResponse
from fingerpost.wire_trajectory import Centroid, LocatedPoint, PathFeatures, TrajectoryResponse
from reference_db import read_fingerprint_file
from reference_db.azimuth import to_azimuth
from service.settings import Settings

SUFFIX, PATH_FEATURES_SUFFIX = "-trajectories.safetensors", "-cues.npy"


@dataclass(frozen=True)
class TrajectoryResult:
    """Errors in metres, and whether each point is inside the stated circle."""

    cell: str
    trajectories: int
    vertices: int
    points: dict[str, NDArray[np.float64]]  # by source of the path features
    centroids: dict[str, NDArray[np.float64]]
    inside: dict[str, NDArray[np.bool_]]  # of the points
    track: NDArray[np.float64]  # the last point of each, posted one by one with a trackId

    def lines(self) -> Iterator[str]:
        what = f"{self.trajectories} trajectories of {self.vertices} points in {self.cell}"
        for source, errors in self.points.items():
            centroid, inside = self.centroids[source].mean(), 100 * self.inside[source].mean()
            yield (
                f"{what}, path features {source}: mean error {errors.mean():.2f} m, of the centroid {centroid:.2f} m; "
                f"{inside:.1f} % inside their stated 95 % circle"
            )
        yield f"{what}, one by one with a trackId: mean error of the last point {self.track.mean():.2f} m"


def shown_trajectories(folder: Path) -> list[Path]:
    """The files to locate; none if no artifact for trajectories is shipped."""
    return [] if Settings().trajectory_artifact_directory is None else sorted(folder.glob(f"*{SUFFIX}"))


def locate_trajectories(url: str, file: Path) -> TrajectoryResult:
    """Posts a file's trajectories with and without measured path features, and as tracks. The cell must exist."""
    cell, users = read_fingerprint_file(file)
    measured = np.load(file.with_name(file.name.replace(SUFFIX, PATH_FEATURES_SUFFIX)), allow_pickle=False)
    vertices = _vertices(url)
    truth = users.positions.reshape(-1, vertices, 2)
    csi = users.csi.reshape(-1, vertices, *users.csi.shape[1:])
    path_features = [[_path_features(one) for one in rows] for rows in measured.reshape(-1, vertices, 4).tolist()]
    with_features = zip(csi, path_features, strict=True)
    with Client(url) as client:
        answers = {
            "measured": [client.locate_trajectory(cell.cell_id, *sent) for sent in with_features],
            "from the CSI": [client.locate_trajectory(cell.cell_id, snapshots) for snapshots in csi],
        }
        last = [_follow(client, cell.cell_id, f"demo-{number}", snapshots) for number, snapshots in enumerate(csi)]
    errors = {
        source: np.array([_errors(*pair) for pair in zip(all_, truth, strict=True)]) for source, all_ in answers.items()
    }
    circles = {
        source: np.array([[point.h_accuracy for point in answer.points] for answer in all_])
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


def _vertices(url: str) -> int:
    models = httpx.get(f"{url}/models").raise_for_status().json()["models"]
    (vertices,) = (model["vertices"] for model in models if model["family"] == "scadf-moe")
    return int(vertices)


def _path_features(values: list[float]) -> PathFeatures:
    aod, aoa, distance, gain = values
    return PathFeatures(
        departure_azimuth_deg=to_azimuth(aod),
        arrival_azimuth_deg=to_azimuth(aoa),
        distance=distance,
        gain_db=10 * math.log10(gain),
    )


def _follow(client: Client, cell_id: str, track_id: str, csi: NDArray[np.complex64]) -> tuple[float, float]:
    """The position after the last snapshot. In a cell without fingerprints the first snapshots have no answer."""
    for snapshot in csi[:-1]:
        with suppress(Refused):
            client.locate(cell_id, snapshot, track_id=track_id)
    return point_of(client.locate(cell_id, csi[-1], track_id=track_id))


def _errors(answer: TrajectoryResponse, truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Errors in metres of the points, then of the centroid."""
    found = np.array([point_of(place) for place in (*answer.points, answer.centroid)])
    return np.asarray(np.linalg.norm(found - np.vstack([truth, truth.mean(axis=0)]), axis=1), np.float64)


def point_of(place: LocateResponse | Centroid | LocatedPoint) -> tuple[float, float]:
    point = place.local_location_estimate.point
    return point.x, point.y
