"""Locates the snapshots of a user together, after each has been located alone by comparison with fingerprints."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import TracksContract
from models.artifact.track_numbers import describe_tracks
from service.inference.mateformer_session import MateformerSession
from service.inference.steps import Steps
from service.telemetry.stopwatch import Stopwatch

_FEW = 4  # tracks that are located quickly enough for the event loop to wait

_Floats = NDArray[np.float32]


class Track(NamedTuple):
    """Snapshots of one user in order of time, each located alone; metres east and north of the base station.

    `estimates` `[t, 2]` with the model's `covariances` `[t, 2, 2]`; `fixes` `[t, 2]` with their 1-sigma error on each
    axis, `accuracy` `[t]`: infinite, and any finite fix, where there is none. `seconds` float64 `[t]`, rising, from any
    origin. `streams` float32 `[t, s]`.
    """

    estimates: _Floats
    covariances: _Floats
    fixes: _Floats
    accuracy: _Floats
    seconds: NDArray[np.float64]
    streams: _Floats


class TrackPoints(NamedTuple):
    """Where each snapshot is, `[t, 2]` metres, with covariances `[t, 2, 2]` that are not calibrated."""

    positions: _Floats
    covariances: _Floats


class TrackEstimator:
    """Takes tracks of any cells."""

    def __init__(self, session: MateformerSession, contract: TracksContract) -> None:
        self._session = session
        self._motion = contract.motion

    def locate_in_steps(self, users: Sequence[Track], stopwatch: Stopwatch) -> Steps[list[TrackPoints]]:
        """Returns the points of each user's track. Yields first where there are many.

        For the owner thread, or the thread in its place. Raises `InferenceFailed` or `OutOfMemory`.
        """
        if len(users) > _FEW:
            yield
        by_length: dict[int, list[int]] = defaultdict(list)
        for row, track in enumerate(users):
            by_length[len(track.seconds)].append(row)
        found: dict[int, TrackPoints] = {}
        with stopwatch.stage("joint"):
            for rows in by_length.values():
                found |= zip(rows, self._locate([users[row] for row in rows]), strict=True)
        return [found[row] for row in range(len(users))]

    def _locate(self, tracks: Sequence[Track]) -> list[TrackPoints]:
        """Tracks of the same length."""
        estimates, covariances, fixes, accuracy, seconds, streams = map(np.stack, zip(*tracks, strict=True))
        described = describe_tracks(estimates, covariances, fixes, accuracy, _spread_equally(seconds), self._motion)
        return [TrackPoints(*one) for one in zip(*self._session.join(streams, described), strict=True)]


def _spread_equally(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times `[b, t]` since the first snapshot; one after the other where all of a track are said to be at one time."""
    elapsed = seconds - seconds[:, :1]
    order = np.arange(elapsed.shape[1], dtype=np.float64)
    return np.where(elapsed[:, -1:] > 0, elapsed, order)
