"""Walks as a Mateformer sees them: each snapshot located alone, with what it knows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import PERFECT
from models.mateformer.evaluation import TRANSFORM_SNAPSHOTS
from models.mateformer.locators import TorchLocator
from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.impairments import Impairments, impair
from models.radio.path_table import PathTable
from models.radio.walks import SNAPSHOTS
from reference_db.index.signal_features import signal_feature
from reference_db.references import References
from reference_db.retrieval import first_neighbourhood

AT_ONCE = 32  # snapshots, each in a frame of its own

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Walked:
    """Walks w of t snapshots. Metres, east and north of the base station."""

    truth: _Floats  # [w, t, 2]
    estimates: _Floats  # [w, t, 2] of each snapshot alone
    covariances: _Floats  # [w, t, 2, 2]
    fixes: _Floats  # [w, t, 2]; zero without a fix
    accuracy: _Floats  # [w, t] 1-sigma error of a fix on each axis; infinite without one
    streams: NDArray[np.float16]  # [w, t, 2d] the two streams of the Mateformer after its last layer

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, walks: NDArray[np.int64], snapshots: NDArray[np.int64]) -> Self:
        """These walks [n], of each its own ``snapshots`` [n, t]."""
        return type(self)(*(getattr(self, one.name)[walks[:, None], snapshots] for one in fields(self)))

    def take_walks(self, rows: NDArray[np.bool_]) -> Self:
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))

    def cut(self, length: int) -> Self:
        """As many pieces of ``length`` snapshots as the walks have, one after the other."""
        pieces = SNAPSHOTS // length
        walks = np.repeat(np.arange(len(self)), pieces)
        first = np.tile(length * np.arange(pieces), len(self))
        return self.take(walks, first[:, None] + np.arange(length))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


class Seen(NamedTuple):
    """How a cell and its walkers are observed.

    ``accuracy``: 1-sigma error of the fixes on each axis in metres, None for no fixes. ``common``: the share of the
    variance that is one error of the whole walk, as GNSS errors are.
    """

    radio: Impairments
    accuracy: float | None
    common: float = 0.0
    turned: bool = False  # the array and the street are turned at random, and half of the streets mirrored


class Observed(NamedTuple):
    """Users who stand, [n], or who walk, [w, t]."""

    csi: NDArray[np.complex64]  # [..., antennas, subcarriers]
    positions: _Floats  # [..., 2]


def locate_walks(
    locator: TorchLocator,
    survey: PathTable,
    walks: PathTable,
    radio: Radio,
    references: int,
    seen: Seen,
    neighbours: int,
    pitch: float,
    rng: np.random.Generator,
) -> Walked:
    """Locates each snapshot alone, as the service does, by the first ``references`` users of the survey."""
    site = survey.site
    yaw = site.yaw + (rng.uniform(-np.pi / 4, np.pi / 4) if seen.turned else 0.0)
    standing = observe_standing(survey, radio, yaw, references)
    walkers = observe_walkers(walks, radio, yaw)
    turn = draw_turn(rng) if seen.turned else np.eye(2, dtype=np.float32)
    places, truth = standing.positions @ turn, walkers.positions @ turn
    csi, asked = (impair_csi(one, seen.radio, radio.bandwidth, rng) for one in (standing.csi[None], walkers.csi))
    csi, asked = csi[0], asked.reshape(-1, *asked.shape[2:])
    fixes = draw_fixes(truth, seen, rng)
    accuracy = np.full(truth.shape[:2], seen.accuracy or np.inf, np.float32)
    sto = seen.radio.timing_s / math.sqrt(3)
    sample = csi[np.linspace(0, len(csi) - 1, min(TRANSFORM_SNAPSHOTS, len(csi))).astype(int)]
    channel = ChannelTransform.of(
        radio.array, radio.subcarriers, radio.bandwidth, site.carrier_frequency, sto, sto, sample
    )
    unknown = np.full_like(truth, np.nan)
    near = first_neighbourhood(
        References.of(places, csi),
        "fused",
        signal_feature(asked),
        (unknown if seen.accuracy is None else fixes).reshape(-1, 2),
        np.where(np.isfinite(accuracy), accuracy, np.nan).ravel(),
        neighbours,
        pitch=pitch,
    )
    known = locator.describe(channel, csi), places
    users = locator.describe(channel, asked), fixes.reshape(-1, 2), accuracy.ravel()
    w, t = truth.shape[:2]
    found = _compare(locator, near, known, users)
    positions, covariances, streams = (one.reshape(w, t, *one.shape[1:]) for one in found)
    return Walked(truth, positions, covariances, fixes, accuracy, streams)


def _compare(
    locator: TorchLocator,
    near: NDArray[np.int64],  # [n, neighbours] rows of the fingerprints
    known: tuple[_Floats, _Floats],  # features [r, F] and positions [r, 2] of the fingerprints
    users: tuple[_Floats, _Floats, _Floats],  # features [n, F], fixes [n, 2] and their accuracy [n]
) -> tuple[_Floats, _Floats, NDArray[np.float16]]:
    """Positions [n, 2], covariances [n, 2, 2] and streams [n, 2d] of users, each in a frame of its own."""
    (features, places), (asked, coarse, accuracy) = known, users
    found = []
    for first in range(0, len(near), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        rows = near[some]
        labelled = features[rows], places[rows], np.zeros(rows.shape, np.float32)
        found.append(locator.query(*labelled, *(one[some, None] for one in (asked, coarse, accuracy))))
    positions, covariances, streams = (
        torch.cat([getattr(one, name)[:, 0] for one in found]).cpu().numpy()
        for name in ("position", "covariance", "streams")
    )
    return positions, covariances, streams.astype(np.float16)


def observe_standing(table: PathTable, radio: Radio, yaw: float, references: int) -> Observed:
    """The first users that a path reaches."""
    rows = np.flatnonzero(table.reached)[:references]
    return Observed(synthesise(table, radio, yaw)[rows], table.users[rows, :2])


def observe_walkers(table: PathTable, radio: Radio, yaw: float) -> Observed:
    """The walks that a path reaches at each snapshot."""
    whole = table.reached.reshape(-1, SNAPSHOTS).all(axis=1)
    csi = synthesise(table, radio, yaw)
    positions = table.users[:, :2].reshape(-1, SNAPSHOTS, 2)
    return Observed(csi.reshape(-1, SNAPSHOTS, *csi.shape[1:])[whole], positions[whole])


def draw_turn(rng: np.random.Generator) -> _Floats:
    """A rotation, in half of the cases after a reflection: [2, 2], for positions as rows."""
    angle, flip = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-flip * np.sin(angle), flip * np.cos(angle)]])
    return turn.astype(np.float32)


def draw_fixes(truth: _Floats, seen: Seen, rng: np.random.Generator) -> _Floats:
    """The fixes of walks [w, t, 2]; zero without any."""
    own, common = rng.normal(size=truth.shape), rng.normal(size=(len(truth), 1, 2))
    if seen.accuracy is None:
        return np.zeros_like(truth)
    error = math.sqrt(1 - seen.common) * own + math.sqrt(seen.common) * common
    return (truth + seen.accuracy * error).astype(np.float32)


def impair_csi(
    csi: NDArray[np.complex64], radio: Impairments, bandwidth: float, rng: np.random.Generator
) -> NDArray[np.complex64]:
    """CSI [w, t, antennas, subcarriers] as this radio reports it; each snapshot has its own offset and noise."""
    seed = int(rng.integers(2**62))
    if radio == PERFECT:
        return csi
    flat = torch.from_numpy(csi.reshape(-1, *csi.shape[2:]))
    impaired: NDArray[np.complex64] = impair(flat, radio, bandwidth, torch.Generator().manual_seed(seed)).numpy()
    return impaired.reshape(csi.shape)
