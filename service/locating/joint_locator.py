"""Locates snapshots of one user together that have been located alone by comparison with fingerprints."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from starlette.requests import Request

from models.artifact import TracksContract
from service.auth.middleware import key_id_of
from service.cells.lookups import finish_before
from service.errors import ServiceError, TrackTooWide
from service.inference.admission import Lane
from service.inference.track_estimator import TrackPoints
from service.locating.asking import deadline_of
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.estimates import Located, Location, Received, Uncertainty, check_position
from service.locating.located_snapshots import LocatedSnapshot, make_track, split_track
from service.locating.open_tracks import open_tracks
from service.locating.tracks import TrackName
from service.locating.users import LocatedUser, TrackedUser
from service.settings import Settings
from service.telemetry.track_metrics import DOUBTFUL, FIRST, JOINT, TrackMetrics

_CONTRADICTED = 2.0  # of the radius within which 99 % of single estimates lie
_MOST_KEPT = 16  # snapshots of a track; an artifact that locates more at once gets these


class _Asked(NamedTuple):
    """Snapshots that wait to be located together. `rows`: the place of each in order of time."""

    snapshots: Sequence[LocatedSnapshot]
    rows: list[int]
    contract: TracksContract
    answer: "asyncio.Future[TrackPoints]"


class JointLocator:
    """For the event loop's thread."""

    def __init__(self, settings: Settings, metrics: TrackMetrics) -> None:
        self._metrics = metrics
        self._window = settings.track_ttl_s
        self._tracks = open_tracks("located", LocatedSnapshot.from_bytes, _MOST_KEPT, settings)

    async def extend(
        self, users: Sequence[Located | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        """The users, those with a track located together with its last snapshots. Where that fails they stay as they
        are: located alone. Raises `ClientGone`.
        """
        found, asked = [*users], dict[int, _Asked]()
        owner = key_id_of(request)
        for i, user in enumerate(users):
            if isinstance(user, LocatedUser) and user.request.track_id is not None and _locates_tracks(user):
                if not is_trustworthy(user):
                    self._metrics.tracked("mateformer", DOUBTFUL)
                    continue
                try:
                    name = TrackName(user.request.cell_id, owner, user.request.track_id)
                    asked[i] = await self._ask_with_earlier(user, name, received, lane)
                except _Alone:
                    self._metrics.tracked("mateformer", FIRST)
                except ServiceError as error:
                    self._metrics.tracked("mateformer", error.cause)
        if not asked:
            return found
        answers = await await_or_disconnect([one.answer for one in asked.values()], request)
        for (i, one), points in zip(asked.items(), answers, strict=True):
            user = found[i]
            assert isinstance(user, LocatedUser)
            try:
                location = _locate(one, len(one.snapshots) - 1, user, points)
            except ServiceError as error:
                self._metrics.tracked("mateformer", error.cause)
            else:
                self._metrics.tracked("mateformer", JOINT)
                found[i] = TrackedUser(user.placed.user, location)
        return found

    async def join(
        self, users: Sequence[LocatedUser], request: Request, received: Received, lane: Lane
    ) -> list[Location]:
        """Where the snapshots of one user are, in one cell: together those that can be, the others alone.

        Times count only if every snapshot has one: else the snapshots follow each other as in the request. Raises
        `ClientGone`, `Congested`, `TooLate` and other errors of the model.
        """
        locations = [user.location for user in users]
        timed = all(user.request.timestamp is not None for user in users)
        joint = [i for i, user in enumerate(users) if _locates_tracks(user) and is_trustworthy(user)]
        kept = [LocatedSnapshot.of(users[i], received.at.timestamp()) for i in joint]
        if not timed:
            kept = [one._replace(time=float(number)) for number, one in enumerate(kept)]
        numbers = {id(one): i for one, i in zip(kept, joint, strict=True)}
        for part in _split(users[joint[0]], kept, self._window) if kept else []:
            rows = [numbers[id(one)] for one in part]
            try:
                asked = _ask(users[rows[0]], part, received, lane)
                (points,) = await await_or_disconnect([asked.answer], request)
                found = [_locate(asked, k, users[i], points) for k, i in enumerate(rows)]
            except (_Alone, TrackTooWide):
                continue
            for i, location in zip(rows, found, strict=True):
                locations[i] = location
        return locations

    def close(self) -> None:
        self._tracks.close()

    async def _ask_with_earlier(self, user: LocatedUser, name: TrackName, received: Received, lane: Lane) -> _Asked:
        """Keeps the user's snapshot, and asks about all that are kept, this one last.

        Raises `_Alone`, `TracksUnavailable` or `Congested`.
        """
        newest = LocatedSnapshot.of(user, received.at.timestamp())
        kept = await finish_before(deadline_of(user.placed.user, received), self._tracks.append(name, newest))
        alike = [one for one in kept if one.source == newest.source and abs(one.time - newest.time) <= self._window]
        parts = _split(user, [*alike[:-1], newest], self._window)  # the store may have returned a copy of the newest
        part = next((part for part in parts if any(one is newest for one in part)), [])
        return _ask(user, [*(one for one in part if one is not newest), newest], received, lane)


class _Alone(Exception):
    """There are too few snapshots to be located together."""


def _locates_tracks(user: LocatedUser) -> bool:
    return user.placed.served.engine.tracks is not None


def is_trustworthy(user: LocatedUser) -> bool:
    """Whether other snapshots of the user may be located by this one."""
    return not (user.is_doubtful or user.is_contradicted)


def _split(user: LocatedUser, snapshots: Sequence[LocatedSnapshot], window_s: float) -> list[list[LocatedSnapshot]]:
    contract = user.placed.served.engine.artifact.manifest.tracks
    assert contract is not None
    return split_track(snapshots, contract.stride, window_s)


def _ask(user: LocatedUser, snapshots: Sequence[LocatedSnapshot], received: Received, lane: Lane) -> _Asked:
    """Asks about the snapshots of a user. Raises `_Alone` or `Congested`."""
    engine = user.placed.served.engine
    contract, tracks = engine.artifact.manifest.tracks, engine.tracks
    assert contract is not None
    assert tracks is not None
    snapshots = snapshots[-contract.snapshots :]
    if len(snapshots) < 2:
        raise _Alone
    tracks.check_room(lane)
    order = sorted(range(len(snapshots)), key=lambda i: snapshots[i].time)
    rows = [order.index(i) for i in range(len(snapshots))]
    track = make_track([snapshots[i] for i in order])
    return _Asked(snapshots, rows, contract, tracks.locate(track, deadline_of(user.placed.user, received), lane))


def _locate(asked: _Asked, number: int, user: LocatedUser, points: TrackPoints | ServiceError) -> Location:
    """Where one of the snapshots is, by all of them. Raises why that is not known."""
    if isinstance(points, ServiceError):
        raise points
    contract, n = asked.contract, len(asked.snapshots)
    step = float(np.linalg.norm(np.diff(points.positions, axis=0), axis=1).max())
    if not step <= contract.stride:  # also when NaN
        reason = f"the user goes {step:.1f} m from snapshot to snapshot; the artifact takes"
        raise TrackTooWide("/trackId", f"{reason} {contract.stride:g} m")
    apart = [one.distance_to(points.positions[i]) for i, one in zip(asked.rows, asked.snapshots, strict=True)]
    if max(apart) > _CONTRADICTED:
        raise TrackTooWide("/trackId", "a snapshot alone is located far from where all of them together put it")
    row = asked.rows[number]
    check_position(points.positions[row])
    level = contract.level(float(np.median([one.accuracy for one in asked.snapshots])), n)
    wider = float(np.exp(np.mean(np.log([one.wider for one in asked.snapshots]))))
    covariance = wider * points.covariances[row].astype(np.float64)
    version = user.placed.served.version
    uncertainty = Uncertainty(covariance, level.together)
    return Location(points.positions[row], version.cell, version.frame, uncertainty, *user.describe_provenance(n))
