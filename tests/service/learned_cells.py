"""Cells whose places a made-up network for trajectories has learned: users in plain sight of a linear array."""

import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from fingerpost import build_locate_body, build_trajectory_request
from fingerpost.wire_trajectory import PathFeatures
from models.artifact import TracksContract
from reference_db import (
    AntennaArray,
    Cell,
    Fingerprints,
    Store,
    import_fingerprints,
    read_contents,
    replace_cell,
    set_model_policy,
)
from reference_db.azimuth import to_azimuth
from reference_db.manifest import ModelPolicy
from reference_db.path_features import SPEED_OF_LIGHT
from service.settings import Settings
from tests.service.plane_cell import Json, street
from tests.service.tiny_artifact import only, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

ANTENNAS, SUBCARRIERS, BANDWIDTH, CARRIER = 8, 16, 40e6, 3.5e9
LEARNED = ("both", "bare", "only-tracks", "only-fingerprints", "other-band")
# Within 2 m of the first; the estimators tell them apart to a few decimetres.
TRAJECTORY = np.array([[50.0, 5.0], [50.8, 5.5], [49.4, 5.9]])


def learned_cell(cell_id: str, carrier: float = CARRIER) -> Cell:
    return Cell(
        cell_id=cell_id,
        latitude_deg=43.7731,
        longitude_deg=11.2560,
        height=1.5,
        yaw=0.0,
        array=AntennaArray(rows=1, columns=ANTENNAS),
        carrier_frequency=carrier,
        bandwidth=BANDWIDTH,
        subcarriers=SUBCARRIERS,
    )


def seen_at(positions: np.ndarray) -> np.ndarray:
    """CSI complex64 `[n, antennas, subcarriers]` of users at `[n, 2]`; its first number is positive."""
    length, angle = np.hypot(*positions.T), np.arctan2(positions[:, 1], positions[:, 0])
    array = np.exp(1j * np.pi * np.sin(angle)[:, None] * np.arange(ANTENNAS))
    band = np.exp(-2j * np.pi * (length / SPEED_OF_LIGHT)[:, None] * np.arange(SUBCARRIERS) * BANDWIDTH / SUBCARRIERS)
    return (1e-3 / length[:, None, None] * array[:, :, None] * band[:, None, :]).astype(np.complex64)


def path_features_at(positions: np.ndarray) -> list[PathFeatures]:
    """What a base station would measure exactly."""
    return [
        PathFeatures(
            departure_azimuth_deg=to_azimuth(math.atan2(y, x)),
            arrival_azimuth_deg=to_azimuth(math.atan2(-y, -x)),
            distance=math.hypot(x, y),
            gain_db=-60 - 20 * math.log10(math.hypot(x, y)),
        )
        for x, y in positions.tolist()
    ]


def trajectory(cell_id: str = "both", positions: np.ndarray = TRAJECTORY, **fields: Any) -> Json:
    """A good request's JSON, every cue measured; keywords replace or add fields."""
    trajectory = build_trajectory_request(cell_id, seen_at(positions), path_features_at(positions))
    request: Json = trajectory.model_dump(mode="json")
    return request | fields


def snapshot(track_id: str, position: np.ndarray, cell_id: str = "both", **fields: Any) -> Json:
    """A good request of a user with a track."""
    return build_locate_body(cell_id, seen_at(position[np.newaxis])[0]) | {"trackId": track_id} | fields


def write_artifacts(folder: Path, tracks: TracksContract | None = None) -> Settings:
    """A service with networks for fingerprints and for trajectories, its database in a directory that is still empty.

    With `tracks`, the one for fingerprints locates tracks too.
    """
    (folder / "mateformer").mkdir(parents=True)
    write_tiny_artifact(folder / "mateformer", radios=only(ANTENNAS, SUBCARRIERS), tracks=tracks)
    write_tiny_trajectory_artifact(folder / "scadf-moe", LEARNED, ANTENNAS, SUBCARRIERS, BANDWIDTH, CARRIER)
    return Settings(
        port=0,
        database_directory=folder / "database",
        artifact_directory=folder / "mateformer",
        trajectory_artifact_directory=folder / "scadf-moe",
        lwlm_artifact_directory=None,
        inference_threads=1,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        follow_period_s=0.2,
    )


def fill(store: Store) -> None:
    """`both`, `only-tracks` and `only-fingerprints` by their policies, `bare` without fingerprints, and two that the
    artifact for trajectories is no good for: `unlearned`, `other-band`."""
    for cell_id in ("both", "only-tracks", "only-fingerprints", "unlearned", "other-band"):
        cell = learned_cell(cell_id, 6e9 if cell_id == "other-band" else CARRIER)
        import_fingerprints(store, cell, fingerprints_at(street(60, 1)), {}, ORIGIN)
    bare = replace_cell(None, learned_cell("bare"), None, ORIGIN)
    store.publish(bare.manifest, bare.segments, None)
    set_policy(store, "only-tracks", "scadf-moe")
    set_policy(store, "only-fingerprints", "mateformer")


def fingerprints_at(positions: np.ndarray) -> Fingerprints:
    n = len(positions)
    return Fingerprints(seen_at(positions), positions, np.zeros(n), np.full(n, 0.05, np.float32))


def set_policy(store: Store, cell_id: str, policy: ModelPolicy) -> None:
    before = store.current(cell_id)
    assert before is not None
    update = set_model_policy(read_contents(store, before), policy, ORIGIN)
    store.publish(update.manifest, update.segments, before.digest)


def local_points(answer: Json) -> np.ndarray:
    """`[vertices, 2]`"""
    points = [one["localLocationEstimate"]["point"] for one in answer["points"]]
    return np.array([(point["x"], point["y"]) for point in points])


def locate(client: httpx.Client, body: Json) -> Json:
    """What a user is answered, who must be located."""
    response = client.post("/locate", json=body)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def point_of(answer: Json) -> tuple[float, float]:
    point = answer["localLocationEstimate"]["point"]
    return point["x"], point["y"]
