"""Reads a body of `POST /locate/trajectory`."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost import wire_trajectory as wire
from fingerpost.wire_provenance import FeatureSource
from fingerpost.wire_trajectory import TrajectoryRequest
from reference_db.azimuth import to_direction
from service import errors
from service.inference.trajectory_session import PATH_FEATURES
from service.locating.batch import USER_VALUES
from service.locating.estimates import Received
from service.locating.quality import check_times, choose_shapes
from service.web.csi import decode_csi
from service.web.media import Format, validated


class ReadTrajectory(NamedTuple):
    """A valid request: CSI float32 `[antennas, subcarriers, 2]` of each snapshot, path features float64
    `[snapshots, 4]`, NaN where absent.
    """

    request: TrajectoryRequest
    csi: list[NDArray[np.float32]]
    path_features: NDArray[np.float64]

    @property
    def source(self) -> FeatureSource:
        return "estimated" if np.isnan(self.path_features).any() else "measured"


def parse_trajectory(body: bytes, reads: Format, most: int) -> Any:
    """The parsed body. Raises `TrajectoryLength` where it has more values than `most` snapshots may have."""
    if reads.has_more_values(body, USER_VALUES * (most + 1)):
        raise errors.TrajectoryLength("/snapshots", f"more values than {most} snapshots may have")
    return reads.parsed(body)


def read_trajectory(parsed: Any, received: Received) -> ReadTrajectory:
    """Raises what is wrong with a parsed body."""
    request = validated(parsed, TrajectoryRequest)
    choose_shapes(request.supported_gad_shapes)
    times = [(f"/snapshots/{i}/timestamp", one.timestamp) for i, one in enumerate(request.snapshots)]
    check_times(times, request.max_age, received)
    csi = []
    for i, snapshot in enumerate(request.snapshots):
        try:
            csi.append(decode_csi(snapshot.csi))
        except errors.FieldError as error:
            raise error.under(f"/snapshots/{i}") from error
    features = np.array([_read_path_features(snapshot.path_features) for snapshot in request.snapshots])
    return ReadTrajectory(request, csi, features)


def _read_path_features(sent: wire.PathFeatures | None) -> list[float]:
    """As the model takes them: radians, metres, linear power; NaN where absent."""
    if sent is None:
        return [math.nan] * len(PATH_FEATURES)
    departure, arrival, distance, gain = (
        math.nan if feature is None else feature
        for feature in (sent.departure_azimuth_deg, sent.arrival_azimuth_deg, sent.distance, sent.gain_db)
    )
    return [to_direction(departure), to_direction(arrival), distance, 10 ** (gain / 10)]
