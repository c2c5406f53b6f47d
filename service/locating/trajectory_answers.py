"""What a located trajectory is answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost import wire_trajectory as wire
from fingerpost.wire_provenance import FeatureSource
from fingerpost.wire_trajectory import FeatureSources, TrajectoryResponse
from models.artifact import Scales, TrajectoryScales
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service.cells.descriptions import DescribedCell
from service.inference.engine import TrajectoryEngine
from service.inference.trajectory_estimator import Points, Trajectory, points_within
from service.locating.estimates import Json, Location, Uncertainty, whole_minutes
from service.locating.quality import state_location
from service.locating.trajectory_reader import ReadTrajectory
from service.locating.users import LocatedUser
from service.web.csi import check_shape


class _Point(NamedTuple):
    """A located point. `position` `[2]` in metres east and north."""

    position: NDArray[np.floating]
    cell: Cell
    frame: LocalFrame
    uncertainty: Uncertainty


def place_trajectory(read: ReadTrajectory, cell: DescribedCell) -> Trajectory:
    """The trajectory in a cell that the artifact for trajectories has learned. Raises `CsiShapeMismatch`."""
    for i, csi in enumerate(read.csi):
        check_shape(csi, cell.version.cell, f"/snapshots/{i}/csi/shape")
    return Trajectory(cell.version.cell, np.stack(read.csi), read.path_features)


def answer_learned(
    read: ReadTrajectory,
    cell: DescribedCell,
    located: Points,
    engine: TrajectoryEngine,
    confidence: int,
    received: datetime,
) -> TrajectoryResponse:
    """The answer for points and centroid by the artifact for trajectories, with their calibrated covariances.

    `confidence`: that of the service in per cent. Raises `EstimateNotFinite`.
    """
    request, source = read.request, read.source
    manifest = engine.artifact.manifest
    scales: TrajectoryScales = getattr(manifest.scales, source)
    known = [scales.vertex] * manifest.vertices + [scales.centroid]
    *points, centroid = (
        state_location(
            _Point(position, cell.version.cell, cell.frame, Uncertainty(covariance, one)), request, confidence
        ).fields
        for position, covariance, one in zip(*located, known, strict=True)
    )
    return TrajectoryResponse(
        request_id=request.request_id,
        points=[
            _make_point(snapshot, stated | {"pathFeatures": _name_sources(features)}, received)
            for snapshot, features, stated in zip(request.snapshots, read.path_features, points, strict=True)
        ],
        centroid=wire.Centroid.model_validate(centroid),
        provenance=wire.TrajectoryProvenance(
            artifact=engine.reference,
            cell_version=cell.version.version,
            path_features=source,
            within_radius=points_within(located.positions[:-1], manifest.radius + manifest.tolerance),
        ),
    )


def answer_by_fingerprints(
    read: ReadTrajectory,
    users: Sequence[LocatedUser],
    locations: Sequence[Location],
    confidence: int,
    received: datetime,
) -> TrajectoryResponse:
    """The answer for points by comparison with fingerprints. Arguments and errors as in `answer_learned`."""
    request, first = read.request, users[0].placed.served
    wanted = confidence if request.confidence is None else request.confidence
    centroid = _Point(
        np.mean([one.position for one in locations], axis=0),
        locations[0].cell,
        locations[0].frame,
        _combine([one.uncertainty for one in locations], wanted),
    )
    return TrajectoryResponse(
        request_id=request.request_id,
        points=[
            _make_point(
                snapshot,
                state_location(location, request, confidence).fields | {"provenance": location.described},
                received,
            )
            for snapshot, location in zip(request.snapshots, locations, strict=True)
        ],
        centroid=wire.Centroid.model_validate(state_location(centroid, request, confidence).fields),
        provenance=wire.JointProvenance(artifact=first.engine.reference, cell_version=first.version.version),
    )


def _combine(uncertainties: Sequence[Uncertainty], confidence: int) -> Uncertainty:
    """Of the mean of positions whose errors may be the same: the mean of their ellipses."""
    scales = [one.scales.at(confidence) for one in uncertainties]
    covariance = np.mean(
        [scale.factor**2 * one.covariance for scale, one in zip(scales, uncertainties, strict=True)], axis=0
    )
    return Uncertainty(covariance, Scales(factors={min(one.confidence for one in scales): 1.0}))


def _make_point(snapshot: wire.Snapshot, fields: Json, received: datetime) -> wire.LocatedPoint:
    measured = snapshot.timestamp or received
    times = {"ageOfLocationEstimate": whole_minutes(received - measured), "timestampOfLocationEstimate": measured}
    return wire.LocatedPoint.model_validate(fields | times)


def _name_sources(path_features: NDArray[np.float64]) -> FeatureSources:
    """Where the path features of a snapshot came from."""
    sources: list[FeatureSource] = ["estimated" if missing else "measured" for missing in np.isnan(path_features)]
    return FeatureSources(**dict(zip(FeatureSources.model_fields, sources, strict=True)))
