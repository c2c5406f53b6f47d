"""Locates snapshots of one user together that have been located alone by comparison with fingerprints."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from models.artifact import Scales, TracksContract
from service.auth.middleware import key_id_of
from service.cells.lookups import finish_before
from service.errors import ServiceError, TrackTooWide
from service.inference.admission import Lane
from service.inference.track_estimator import TrackPoints
from service.locating.asking import deadline_of
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.estimates import Located, Location, Received, Uncertainty, check_position
from service.locating.located_snapshots import LocatedSnapshot, contract_of, make_track, split_track
from service.locating.open_tracks import open_tracks
from service.locating.tracks import TrackName
from service.locating.users import LocatedUser, TrackedUser
from service.settings import Settings
from service.telemetry.track_metrics import DOUBTFUL, FIRST, JOINT, TrackMetrics

_CONTRADICTED = 2.0  # of the radius within which 99 % of single estimates lie
_MOST_KEPT = 16  # snapshots of a track; an artifact that locates more at once gets these


class _Asked(NamedTuple):
    """Snapshots in order of time that wait to be located together."""

    snapshots: Sequence[LocatedSnapshot]
    contract: TracksContract
    answer: "asyncio.Future[TrackPoints]"


class _Joint(NamedTuple):
    """Where snapshots are by all of them: `[t, 2]` metres with covariances `[t, 2, 2]`, which `scales` calibrate."""

    positions: NDArray[np.float32]
    covariances: NDArray[np.float64]
    scales: Scales


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
        found, asked = [*users], dict[int, tuple[_Asked, int]]()
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
        answers = await await_or_disconnect([one.answer for one, _ in asked.values()], request)
        for (i, (one, number)), points in zip(asked.items(), answers, strict=True):
            user = found[i]
            assert isinstance(user, LocatedUser)
            try:
                location = _locate(_take(one, points), number, user)
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
                found = _take(asked, points)
                here = [_locate(found, number, users[i]) for number, i in enumerate(rows)]
            except (_Alone, TrackTooWide):
                continue
            for i, location in zip(rows, here, strict=True):
                locations[i] = location
        return locations

    def close(self) -> None:
        self._tracks.close()

    async def _ask_with_earlier(
        self, user: LocatedUser, name: TrackName, received: Received, lane: Lane
    ) -> tuple[_Asked, int]:
        """Keeps the user's snapshot, and asks about it and the last ones that belong to it. Also: which of them it is.

        Raises `_Alone`, `TracksUnavailable` or `Congested`.
        """
        newest = LocatedSnapshot.of(user, received.at.timestamp())
        kept = await finish_before(deadline_of(user.placed.user, received), self._tracks.append(name, newest))
        alike = [one for one in kept if one.source == newest.source and abs(one.time - newest.time) <= self._window]
        parts = _split(user, [*alike[:-1], newest], self._window)  # the store may have returned a copy of the newest
        part = next((part for part in parts if any(one is newest for one in part)), [])
        most = contract_of(user).snapshots
        earlier = [one for one in part if one is not newest][1 - most :]
        track = sorted([*earlier, newest], key=lambda one: one.time)
        return _ask(user, track, received, lane), next(i for i, one in enumerate(track) if one is newest)


class _Alone(Exception):
    """There are too few snapshots to be located together."""


def _locates_tracks(user: LocatedUser) -> bool:
    return user.placed.served.engine.tracks is not None


def is_trustworthy(user: LocatedUser) -> bool:
    """Whether other snapshots of the user may be located by this one."""
    return not (user.is_doubtful or user.is_contradicted)


def _split(user: LocatedUser, snapshots: Sequence[LocatedSnapshot], window_s: float) -> list[list[LocatedSnapshot]]:
    return split_track(snapshots, contract_of(user).stride, window_s)


def _ask(user: LocatedUser, snapshots: Sequence[LocatedSnapshot], received: Received, lane: Lane) -> _Asked:
    """Asks about the snapshots of a user, in order of time. Raises `_Alone` or `Congested`."""
    tracks = user.placed.served.engine.tracks
    assert tracks is not None
    if len(snapshots) < 2:
        raise _Alone
    tracks.check_room(lane)
    answer = tracks.locate(make_track(snapshots), deadline_of(user.placed.user, received), lane)
    return _Asked(snapshots, contract_of(user), answer)


def _take(asked: _Asked, points: TrackPoints | ServiceError) -> _Joint:
    """The answer for all snapshots, calibrated. Raises why there is none."""
    if isinstance(points, ServiceError):
        raise points
    snapshots, contract = asked.snapshots, asked.contract
    step = float(np.linalg.norm(np.diff(points.positions, axis=0), axis=1).max())
    if not step <= contract.stride:  # also when NaN
        reason = f"the user goes {step:.1f} m from snapshot to snapshot; the artifact takes"
        raise TrackTooWide("/trackId", f"{reason} {contract.stride:g} m")
    if max(one.distance_to(place) for one, place in zip(snapshots, points.positions, strict=True)) > _CONTRADICTED:
        raise TrackTooWide("/trackId", "a snapshot alone is located far from where all of them together put it")
    level = contract.level(float(np.median([one.accuracy for one in snapshots])), len(snapshots))
    wider = float(np.exp(np.mean(np.log([one.wider for one in snapshots]))))
    return _Joint(points.positions, wider * points.covariances.astype(np.float64), level.together)


def _locate(joint: _Joint, number: int, user: LocatedUser) -> Location:
    """Where one of the snapshots is. Raises `EstimateNotFinite`."""
    position = joint.positions[number]
    check_position(position)
    version, provenance = user.placed.served.version, user.describe_provenance(len(joint.positions))
    uncertainty = Uncertainty(joint.covariances[number], joint.scales)
    return Location(position, version.cell, version.frame, uncertainty, *provenance)
