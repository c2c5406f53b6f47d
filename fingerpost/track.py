"""Tracks: what they remember of one user, and how they locate the user by it."""

import re
import time
import warnings
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Unpack

import httpx
from numpy.typing import ArrayLike

from fingerpost.csi import encode_csi
from fingerpost.errors import Refused
from fingerpost.exchange import Exchange
from fingerpost.location_calls import ask_about_user
from fingerpost.requests import QualityFields
from fingerpost.running import AsyncRunner, BlockingRunner, asynchronous, blocking
from fingerpost.wire import CoarsePosition, LocateRequest, LocateResponse, Problem
from fingerpost.wire_provenance import TrackProvenance, UserProvenance
from fingerpost.wire_shapes import StatedLocation
from fingerpost.wire_trajectory import (
    JointProvenance,
    PathFeatures,
    Snapshot,
    TrajectoryProvenance,
    TrajectoryRequest,
    TrajectoryResponse,
)

# Nothing that the next snapshots change: this cell's users are not located by trajectories.
_NEVER_TOGETHER = {
    "BAND_NOT_SERVED_BY_ARTIFACT",
    "CELL_NOT_SERVED_BY_ARTIFACT",
    "MODEL_NOT_ALLOWED_BY_CELL",
    "NO_TRAJECTORY_ARTIFACT",
    "TRAJECTORY_LENGTH",
}
_LEAST_S = 1e-3  # what is left of a deadline that has passed: the service says that it has


class _Remembered(NamedTuple):
    snapshot: Snapshot
    at: float  # a moment of `time.monotonic`


class TrackMemory:
    """The last snapshots of one user in the cell `cell_id`: `snapshots` of them, none older than `window_s` seconds.

    The service remembers nothing of it, so any replica may answer.
    """

    def __init__(self, cell_id: str, snapshots: int, window_s: float) -> None:
        self.cell_id = cell_id
        self._kept: deque[_Remembered] = deque(maxlen=snapshots)
        self._window_s = window_s
        self._located_together = True
        self._fewest = snapshots  # located together; two where the service compares them with fingerprints

    @property
    def remembered(self) -> int:
        """How many snapshots the track remembers; old ones go when the next one comes."""
        return len(self._kept)

    def remember(self, snapshot: Snapshot, now: float) -> list[Snapshot] | None:
        """The snapshots to locate together, the new one last; None while there are too few. `now`: `time.monotonic`."""
        recent = [one for one in self._kept if one.snapshot != snapshot and now - one.at <= self._window_s]
        self._kept = deque([*recent, _Remembered(snapshot, now)], self._kept.maxlen)
        enough = self._located_together and len(self._kept) >= self._fewest
        return [one.snapshot for one in self._kept] if enough else None

    def note_any_number(self) -> None:
        """The service locates any number of snapshots of this cell together."""
        self._fewest = min(2, self._fewest)

    def note_refusal(self, problem: Problem) -> None:
        """Why the service did not locate snapshots together. Warns where another number of snapshots would be."""
        self._located_together &= problem.cause not in _NEVER_TOGETHER
        if problem.cause == "TRAJECTORY_LENGTH":
            warnings.warn(
                f"cell {self.cell_id}: {problem.detail}; this track locates each snapshot alone. Choose another number"
                " of snapshots for it.",
                stacklevel=1,  # the caller's frame lies behind an exchange
            )

    def drop(self, snapshot: Snapshot) -> list[Snapshot] | None:
        """Forgets one snapshot; the others, if they are enough to be located together."""
        self._kept = deque([one for one in self._kept if one.snapshot is not snapshot], self._kept.maxlen)
        return [one.snapshot for one in self._kept] if len(self._kept) >= self._fewest else None

    def forget(self) -> None:
        """Forgets all snapshots: the next one is another user's, or the user has jumped."""
        self._kept.clear()


def locate_on_track(
    track: TrackMemory,
    csi: ArrayLike,
    coarse_position: CoarsePosition | None = None,
    path_features: PathFeatures | None = None,
    timestamp: datetime | None = None,
    **fields: Unpack[QualityFields],
) -> Exchange[LocateResponse]:
    """Locates the user by this snapshot, complex `[antennas, subcarriers]`, and the last ones together.

    While there are too few of them, where they do not lie near enough to each other, and in cells where the service
    locates no snapshots together, locates the user by this snapshot and `coarse_position`, as `Client.locate` does.
    `path_features` is what the base station measured in addition to the CSI: the service uses them in cells that its
    artifact for trajectories has learned, and coarse positions in all others. The same snapshot again, with the same
    `timestamp`, counts once. `fields` are further fields of the request.
    """
    started = time.monotonic()
    newest = Snapshot(
        csi=encode_csi(csi), coarse_position=coarse_position, path_features=path_features, timestamp=timestamp
    )
    alone = LocateRequest(
        cell_id=track.cell_id, csi=newest.csi, coarse_position=coarse_position, timestamp=timestamp, **fields
    )
    snapshots = track.remember(newest, started)
    while snapshots is not None:
        try:
            together = TrajectoryRequest(cell_id=track.cell_id, snapshots=snapshots, **fields)
            answer = yield from ask_about_user("/locate/trajectory", together, TrajectoryResponse)
        except Refused as refused:
            track.note_refusal(refused.problem)
            at_fault = _find_at_fault(refused, snapshots)
            if at_fault is None:
                break
            snapshots = track.drop(at_fault)  # it would spoil the next answers, too
            if at_fault is newest:
                break
        else:
            if isinstance(answer.provenance, JointProvenance):
                track.note_any_number()
            if isinstance(answer.provenance, JointProvenance) or answer.provenance.within_radius:
                return _newest_of(answer)
            break
    if alone.max_resp_time is not None:
        left_s = alone.max_resp_time - (time.monotonic() - started)
        alone = alone.model_copy(update={"max_resp_time": max(left_s, _LEAST_S)})
    return (yield from ask_about_user("/locate", alone, LocateResponse))


def _find_at_fault(refused: Refused, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """The snapshot that a problem names; None if it names none."""
    for one in refused.problem.invalid_params or ():
        if named := re.match(r"/snapshots/(\d+)/", one.param):
            return snapshots[int(named[1])]
    return None


def _newest_of(answer: TrajectoryResponse) -> LocateResponse:
    """The last point of a trajectory, as `POST /locate` answers the newest snapshot of a track."""
    newest, how = answer.points[-1], answer.provenance
    stated = {name: getattr(newest, name) for name in StatedLocation.model_fields}
    provenance: UserProvenance | None = newest.provenance
    if isinstance(how, TrajectoryProvenance):
        provenance = TrackProvenance(
            artifact=how.artifact,
            cell_version=how.cell_version,
            snapshots=len(answer.points),
            path_features=how.path_features,
        )
    assert provenance is not None
    return LocateResponse(
        **stated,
        request_id=answer.request_id,
        age_of_location_estimate=newest.age_of_location_estimate,
        timestamp_of_location_estimate=newest.timestamp_of_location_estimate,
        provenance=provenance,
    )


class Track(TrackMemory, BlockingRunner):
    """Locates one user again and again; made by `Client.track`."""

    def __init__(self, http: httpx.Client, tries: int, cell_id: str, snapshots: int, window_s: float) -> None:
        TrackMemory.__init__(self, cell_id, snapshots, window_s)
        BlockingRunner.__init__(self, http, tries)

    locate = blocking(locate_on_track)


class AsyncTrack(TrackMemory, AsyncRunner):
    """The same as `Track` for asyncio."""

    def __init__(self, http: httpx.AsyncClient, tries: int, cell_id: str, snapshots: int, window_s: float) -> None:
        TrackMemory.__init__(self, cell_id, snapshots, window_s)
        AsyncRunner.__init__(self, http, tries)

    locate = asynchronous(locate_on_track)
