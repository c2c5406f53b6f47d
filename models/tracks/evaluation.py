"""Tracks located by each snapshot alone, by a Kalman smoother, and by the track network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.smoother import Motion, smooth
from models.artifact.track_numbers import describe_tracks
from models.mateformer.evaluation import CHI_SQUARED_95
from models.pipeline.loss import SMALLEST_M
from models.radio.siting import NLOS_SUFFIX
from models.tracks.network import TrackFormer
from models.tracks.walked import Walked

ALONE, SMOOTHER, NETWORK = "alone", "smoother", "network"
SPEEDS, WANDERS, TRUSTS = (0.5, 1.0, 2.0, 4.0), (0.05, 0.2, 0.5, 1.0), (1.0, 2.0, 4.0)

_Floats = NDArray[np.float32]
Cell = tuple[str, int]
Located = Mapping[Cell, Mapping[str, Walked]]  # by cell and by the label of a condition


def choose_motion(tracks: Walked) -> Motion:
    """The motion with which the smoother's errors are smallest, on a logarithmic scale."""
    elapsed = time_tracks(tracks)

    def score(motion: Motion) -> float:
        found = smooth(tracks.estimates, tracks.covariances, elapsed, motion).positions
        return float(np.log(np.linalg.norm(found - tracks.truth, axis=-1).mean(axis=1) + SMALLEST_M).mean())

    motions = product(SPEEDS, WANDERS, TRUSTS)
    return min((Motion(speed=speed, wander=wander, trust=trust) for speed, wander, trust in motions), key=score)


def time_tracks(tracks: Walked) -> _Floats:
    """Snapshots that are equally far apart in time."""
    w, t = tracks.truth.shape[:2]
    return np.broadcast_to(np.arange(t, dtype=np.float32), (w, t))


def locate_tracks(
    network: TrackFormer, motion: Motion, validation: Located, test: Located, snapshots: Sequence[int]
) -> dict[str, Any]:
    """The errors in metres of all test tracks, by group of cells, condition, number of snapshots and method.

    The smoother's motion is chosen on the validation cells, anew for each condition and number of snapshots; the
    network corrects the one smoother that it was trained with.
    """
    labels = list(next(iter(test.values())))
    found: dict[str, Any] = {}
    for label, t in product(labels, snapshots):
        tuned = choose_motion(Walked.join([one[label] for one in validation.values()]).cut(t))
        for group, cells in group_cells(test).items():
            tracks = Walked.join([test[cell][label] for cell in cells]).cut(t)
            elapsed = time_tracks(tracks)
            positions, covariances = run_network(network, tracks, elapsed, motion)
            by_method = {
                ALONE: tracks.estimates,
                SMOOTHER: smooth(tracks.estimates, tracks.covariances, elapsed, tuned).positions,
                NETWORK: positions,
            }
            entry: dict[str, Any] = {name: summarise(at - tracks.truth) for name, at in by_method.items()}
            entry["inside"] = share_inside(positions - tracks.truth, covariances)
            entry["tuned"] = tuned.model_dump()
            found.setdefault(group, {}).setdefault(label, {})[str(t)] = entry
    return {"tracks": found}


def run_network(network: TrackFormer, tracks: Walked, elapsed: _Floats, motion: Motion) -> tuple[_Floats, _Floats]:
    """Positions [w, t, 2] and covariances [w, t, 2, 2]."""
    with torch.inference_mode():
        found = network(*describe_inputs(tracks, elapsed, motion))
    return found.position.numpy(), found.covariance.numpy()


def describe_inputs(tracks: Walked, elapsed: NDArray[np.floating], motion: Motion) -> tuple[torch.Tensor, ...]:
    """What `TrackFormer.forward` takes."""
    described = describe_tracks(tracks.estimates, tracks.covariances, tracks.fixes, tracks.accuracy, elapsed, motion)
    numbers = described.numbers, described.smoothed, described.sigma
    return torch.from_numpy(tracks.streams).float(), *map(torch.from_numpy, numbers)


def group_cells(cells: Mapping[Cell, object]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {"sited in sight": [], "sited out of sight": []}
    for cell in cells:
        groups["sited out of sight" if cell[0].endswith(NLOS_SUFFIX) else "sited in sight"].append(cell)
    return {name: ones for name, ones in groups.items() if ones}


def summarise(off: NDArray[np.floating]) -> dict[str, float]:
    """Of errors [w, t, 2]: over all snapshots, and of the newest of each track."""
    metres = np.linalg.norm(off, axis=-1)
    figures = {"mean": metres.mean(), "median": np.median(metres), "p90": np.quantile(metres, 0.9)}
    return {name: float(value) for name, value in (figures | {"newest": metres[:, -1].mean()}).items()}


def share_inside(off: NDArray[np.floating], covariances: NDArray[np.floating]) -> float:
    """The share of the snapshots inside the stated 95 % ellipse, before any calibration."""
    return float((np.square(measure_distances(off, covariances)) <= CHI_SQUARED_95).mean())


def measure_distances(off: NDArray[np.floating], covariances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mahalanobis distances [...] of errors [..., 2]."""
    squared = np.einsum("...i,...i->...", off, np.linalg.solve(covariances, off[..., None])[..., 0])
    return np.sqrt(squared.astype(np.float64))
