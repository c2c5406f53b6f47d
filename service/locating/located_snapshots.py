"""What tracks keep of a snapshot that has been located alone by comparison with fingerprints."""

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.artifact import Scales, TracksContract
from service.inference.track_estimator import Track
from service.locating.coarse_position import Fix
from service.locating.estimates import RADII_PER_CENT
from service.locating.tracks import DIGEST_BYTES, SnapshotNames, digest
from service.locating.users import LocatedUser

_HEAD = struct.Struct(f"<{DIGEST_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}sd")
_LEAST_AREA = 1e-6  # square metres: a model may state a line
_NUMBERS = 11  # position, covariance, fix, accuracy, wider, reach


class LocatedSnapshot(NamedTuple):
    """Where a snapshot is by itself, in metres east and north of the base station; all but `streams` float32.

    `position` `[2]` with the model's `covariance` `[2, 2]`; `fix` `[2]` with its 1-sigma error `accuracy` on each axis,
    infinite and (0, 0) without one. `wider`: how much wider the cell's own ellipse is than what was measured in other
    streets, as a ratio of areas. `reach`: 99 % of estimates lie within so many standard deviations of the covariance,
    enlarged by that. `streams` float16 `[s]`. `time` in Unix seconds. `source` is a digest of the artifact
    and the version of the cell: snapshots of others do not belong together. `content` is a digest of the CSI: the
    same CSI again says nothing new, even with another time.
    """

    position: NDArray[np.float32]
    covariance: NDArray[np.float32]
    fix: NDArray[np.float32]
    accuracy: float
    wider: float
    reach: float
    streams: NDArray[np.float16]
    time: float
    source: bytes
    content: bytes
    names: SnapshotNames

    @classmethod
    def of(cls, located: LocatedUser, received: float) -> Self:
        """`received`, in Unix seconds, is the time of measurement where the request has no timestamp.

        Raises `EstimateNotFinite`. The artifact must locate tracks.
        """
        placed, estimate, request = located.placed, located.estimate, located.request
        used = placed.fix if estimate.coarse_used and isinstance(placed.fix, Fix) else Fix(0.0, 0.0, math.inf)
        version, engine, timestamp = placed.served.version, placed.served.engine, request.timestamp
        return cls(
            estimate.position,
            estimate.covariance,
            np.array([used.east, used.north], np.float32),
            used.accuracy,
            _compare_ellipses(located, used.accuracy),
            _find_scales_alone(located, used.accuracy).at(99).factor,
            estimate.streams.astype(np.float16),
            received if timestamp is None else timestamp.timestamp(),
            digest(engine.artifact.digest.encode(), version.version.encode()),
            digest(placed.user.csi.tobytes()),
            SnapshotNames.of(placed.user.csi, timestamp, request.request_id),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `ValueError` for other data."""
        try:
            request, measurement, source, content, time = _HEAD.unpack_from(data)
            numbers = np.frombuffer(data, "<f4", _NUMBERS, _HEAD.size).astype(np.float32)
        except struct.error as error:
            raise ValueError(str(error)) from error
        streams = np.frombuffer(data, "<f2", offset=_HEAD.size + numbers.nbytes).astype(np.float16, copy=False)
        position, covariance, fix, scalars = np.split(numbers, [2, 6, 8])
        accuracy, wider, reach = map(float, scalars)
        names, square = SnapshotNames(request, measurement), covariance.reshape(2, 2)
        return cls(position, square, fix, accuracy, wider, reach, streams, time, source, content, names)

    def to_bytes(self) -> bytes:
        head = _HEAD.pack(*self.names, self.source, self.content, self.time)
        scalars = [self.accuracy, self.wider, self.reach]
        numbers = np.concatenate([self.position, self.covariance.ravel(), self.fix, scalars])
        return head + numbers.astype("<f4").tobytes() + self.streams.astype("<f2").tobytes()

    @property
    def radius(self) -> float:
        """Metres from the estimate within which 99 % of users are."""
        return self.reach * math.sqrt(self.wider * float(np.linalg.eigvalsh(self.covariance)[-1]))

    def distance_to(self, place: NDArray[np.floating]) -> float:
        """From the estimate to a place `[2]`, as a multiple of the ellipse within which 99 % of users are."""
        off = (place - self.position).astype(np.float64)
        inverse = np.linalg.pinv(self.wider * self.covariance.astype(np.float64))
        return math.sqrt(max(float(off @ inverse @ off), 0.0)) / self.reach

    def continues(self, before: Self, stride: float, window_s: float) -> bool:
        """Whether a user may have gone from one snapshot to this one: at most so many metres and seconds."""
        near = stride + before.radius + self.radius
        return self.time - before.time <= window_s and math.dist(before.position, self.position) <= near


def split_track(snapshots: Sequence[LocatedSnapshot], stride: float, window_s: float) -> list[list[LocatedSnapshot]]:
    """The parts of a track, each in order of time. Between them the user jumps, or is not seen for too long.

    Of copies of one measurement the last counts.
    """
    parts: list[list[LocatedSnapshot]] = []
    ordered = sorted(snapshots, key=lambda one: one.time)
    for i, one in enumerate(ordered):
        if any(one.content == later.content for later in ordered[i + 1 :]):
            continue
        if parts and one.continues(parts[-1][-1], stride, window_s):
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts


def make_track(snapshots: Sequence[LocatedSnapshot]) -> Track:
    """`snapshots` are in order of time."""
    return Track(
        np.stack([one.position for one in snapshots]),
        np.stack([one.covariance for one in snapshots]),
        np.stack([one.fix for one in snapshots]),
        np.array([one.accuracy for one in snapshots], np.float32),
        np.array([one.time for one in snapshots]),
        np.stack([one.streams for one in snapshots]).astype(np.float32),
    )


def _compare_ellipses(located: LocatedUser, accuracy: float) -> float:
    alone = _find_scales_alone(located, accuracy).at(RADII_PER_CENT)
    ellipse, _ = located.calibrated.around(RADII_PER_CENT)
    determinant = float(np.linalg.det(located.estimate.covariance.astype(np.float64)))
    elsewhere = math.sqrt(max(determinant, _LEAST_AREA**2)) * alone.factor**2
    return max(ellipse.semi_major * ellipse.semi_minor, _LEAST_AREA) / elsewhere


def contract_of(located: LocatedUser) -> TracksContract:
    """Of the artifact that located the user, which must locate tracks."""
    contract = located.placed.served.engine.artifact.manifest.tracks
    assert contract is not None
    return contract


def _find_scales_alone(located: LocatedUser, accuracy: float) -> Scales:
    return contract_of(located).level(accuracy, snapshots=1).alone
