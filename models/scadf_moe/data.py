"""Training and test data of SCADF-MoE: one layout in several bands, and the trajectories through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.survey import describe_cell
from models.scadf_moe.path_features import add_measurement_errors, exact_path_features
from models.scadf_moe.recipe import ScadfMoERecipe, TrainingKind
from models.scadf_moe.sampling import Trajectories, cluster, hold_out, hold_out_regions
from reference_db.path_features import estimate_path_features

# The split depends on the layout only: every model is trained and tested on the same points and trajectories.
SPLIT_SEED = 2027


class OtherUsers(TrainerError):
    """The path tables of a layout's bands have different users."""


@dataclass(frozen=True)
class Layout:
    """The users that a path reaches in every band. The first axis is the band."""

    rows: NDArray[np.int64]  # [users] of the path tables
    csi: NDArray[np.complex64]  # [bands, users, antennas, subcarriers]
    path_features: NDArray[np.float64]  # [bands, users, 4], or [bands, users, 2, 4] if both exact and estimated
    line_of_sight: NDArray[np.bool_]  # [bands, users]
    positions: NDArray[np.float32]  # [users, 2] metres from the base station
    below: NDArray[np.float32]  # [users] metres below its antenna


@dataclass(frozen=True)
class Corpus:
    layout: Layout  # the training bands, then the bands that are only tested
    bands: tuple[float, ...]
    sampled: NDArray[np.bool_]  # [users] of whom training and tested trajectories are drawn
    held_out: NDArray[np.bool_]  # [users] never trained on
    training: Trajectories
    tested: NDArray[np.int64]  # [trajectories, vertices] users


def build_corpus(recipe: ScadfMoERecipe, paths: Path) -> Corpus:
    """Raises `FileNotFoundError` for a missing path table, `OtherUsers`, and `NoTrajectories`."""
    bands = tuple(dict.fromkeys([*recipe.train_bands, *recipe.test_bands]))
    sampling = recipe.sampling
    files = tuple(recipe.table_path(paths, band) for band in bands)
    layout = _load_layout(files, recipe.radio, recipe.path_features)
    rng = np.random.default_rng([SPLIT_SEED, *recipe.layout.encode()])
    sampled = np.ones(len(layout.rows), np.bool_)
    if recipe.certainty is not None:
        sampled = layout.rows < recipe.certainty.after
    labels, held_out = np.full(len(sampled), -1, np.int64), ~sampled
    labels[sampled] = cluster(layout.positions[sampled], sampling.cluster, sampling.radius).labels
    size = (sampling.length, sampling.radius)
    if sampling.region is None:
        held_out[sampled] = hold_out(labels[sampled], sampling.held_out, rng)
        tested = Trajectories(layout.positions, labels, sampled, *size, must=sampled & held_out)
    else:
        held_out[sampled] = hold_out_regions(layout.positions[sampled], sampling.region, sampling.held_out, rng)
        tested = Trajectories(layout.positions, labels, sampled & held_out, *size)
    return Corpus(
        layout=layout,
        bands=bands,
        sampled=sampled,
        held_out=held_out,
        training=Trajectories(layout.positions, labels, ~held_out, *size),
        tested=tested.draw(sampling.tested, rng),
    )


def observe_path_features(
    features: NDArray[np.float64], kind: TrainingKind, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Path features of a `Layout` [trajectories, ..., 4] as the model gets them."""
    if kind == "served":
        exact, estimated = np.moveaxis(features, -2, 0)
        coins = rng.random((len(features), *[1] * (exact.ndim - 1)))
        return np.where(coins < 0.5, add_measurement_errors(exact, rng), estimated)
    return add_measurement_errors(features, rng) if kind == "measured" else features


@lru_cache(maxsize=1)  # an experiment trains many models on one layout
def _load_layout(files: tuple[Path, ...], radio: Radio, kind: TrainingKind) -> Layout:
    tables = [PathTable.load(file) for file in files]
    users = tables[0].users
    for file, table in zip(files, tables, strict=True):
        if not np.array_equal(table.users, users):
            raise OtherUsers(f"{file} has other users than {files[0]}")
    reached = np.all([table.reached for table in tables], axis=0)
    csi = np.stack([synthesise(table, radio, table.site.yaw)[reached] for table in tables])
    kinds = []
    if kind != "estimated":
        kinds.append(np.stack([exact_path_features(table)[reached] for table in tables]))
    if kind in ("estimated", "served"):
        cells = [describe_cell(table.site, radio.array, radio.subcarriers, radio.bandwidth) for table in tables]
        kinds.append(
            np.stack([estimate_path_features(snapshots, cell) for snapshots, cell in zip(csi, cells, strict=True)])
        )
    return Layout(
        rows=np.flatnonzero(reached),
        csi=csi,
        path_features=kinds[0] if len(kinds) == 1 else np.stack(kinds, axis=-2),
        line_of_sight=np.stack([table.line_of_sight[reached] for table in tables]),
        positions=users[reached, :2],
        below=-users[reached, 2],
    )
