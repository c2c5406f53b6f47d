"""One layout in several bands, ready to draw trajectories from: CSI, cues, who is held out, who is in sight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.radio.channel import synthesise
from models.radio.path_table import PathTable
from models.radio.survey import describe
from models.scadf_moe.path_features import measured, path_cues
from models.scadf_moe.recipe import TrainingCues, TrajectoryRecipe
from models.scadf_moe.sampling import Trajectories, cluster, hold_out
from reference_db.cell import AntennaArray
from reference_db.path_features import estimate_path_features

SPLIT_SEED = 2027  # of a layout: the same points are held out whatever is trained, and the same trajectories tested


class OtherUsers(ValueError):
    """The path tables of a layout's bands are not of the same users."""


@dataclass(frozen=True)
class Layout:
    """The users whom a path reaches in every band; the first axis is the band."""

    csi: NDArray[np.complex64]  # [bands, users, antennas, subcarriers]
    cues: NDArray[np.float64]  # [bands, users, 4] exact, or estimated from the CSI; [bands, users, 2, 4] where both
    line_of_sight: NDArray[np.bool_]  # [bands, users]
    positions: NDArray[np.float32]  # [users, 2] metres from the base station
    below: NDArray[np.float32]  # [users] metres under its antenna


@dataclass(frozen=True)
class TrajectoryCorpus:
    layout: Layout  # of the training bands, then of those that are tested only
    bands: tuple[float, ...]
    held_out: NDArray[np.bool_]  # [users]
    training: Trajectories
    tested: NDArray[np.int64]  # [trajectories, vertices] users


def build_trajectories(recipe: TrajectoryRecipe, paths: Path) -> TrajectoryCorpus:
    """Raises `FileNotFoundError` for a band that is not traced yet, `OtherUsers`, and `NoTrajectories`."""
    bands = tuple(dict.fromkeys([*recipe.train_bands, *recipe.test_bands]))
    radio, sampling = recipe.radio, recipe.sampling
    files = tuple(recipe.table(paths, band) for band in bands)
    layout = _load(files, radio.array, radio.subcarriers, radio.bandwidth, recipe.cues)
    rng = np.random.default_rng([SPLIT_SEED, *recipe.layout.encode()])
    labels = cluster(layout.positions, sampling.cluster, sampling.radius).labels
    held_out = hold_out(labels, sampling.held_out, rng)
    size = (sampling.length, sampling.radius)
    tested = Trajectories(layout.positions, labels, np.ones_like(held_out), *size, must=held_out)
    return TrajectoryCorpus(
        layout=layout,
        bands=bands,
        held_out=held_out,
        training=Trajectories(layout.positions, labels, ~held_out, *size),
        tested=tested.draw(sampling.tested, rng),
    )


def as_seen(cues: NDArray[np.float64], kind: TrainingCues, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cues of a `Layout` [trajectories, ..., 4] as the network is given them."""
    if kind == "served":
        exact, estimated = np.moveaxis(cues, -2, 0)
        coins = rng.random((len(cues), *[1] * (exact.ndim - 1)))
        return np.where(coins < 0.5, measured(exact, rng), estimated)
    return measured(cues, rng) if kind == "measured" else cues


@lru_cache(maxsize=1)  # an experiment trains many networks on one layout
def _load(
    files: tuple[Path, ...], array: AntennaArray, subcarriers: int, bandwidth: float, kind: TrainingCues
) -> Layout:
    tables = [PathTable.load(file) for file in files]
    users = tables[0].users
    for file, table in zip(files, tables, strict=True):
        if not np.array_equal(table.users, users):
            raise OtherUsers(f"{file} is not of the users of {files[0]}")
    reached = np.all([table.reached for table in tables], axis=0)
    csi = np.stack([synthesise(table, array, table.site.yaw, subcarriers, bandwidth)[reached] for table in tables])
    kinds = []
    if kind != "estimated":
        kinds.append(np.stack([path_cues(table)[reached] for table in tables]))
    if kind in ("estimated", "served"):
        cells = [describe(table.site, array, subcarriers, bandwidth) for table in tables]
        kinds.append(
            np.stack([estimate_path_features(snapshots, cell) for snapshots, cell in zip(csi, cells, strict=True)])
        )
    return Layout(
        csi=csi,
        cues=kinds[0] if len(kinds) == 1 else np.stack(kinds, axis=-2),
        line_of_sight=np.stack([table.line_of_sight[reached] for table in tables]),
        positions=users[reached, :2],
        below=-users[reached, 2],
    )
