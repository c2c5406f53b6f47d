"""What `POST /locate/trajectory` takes and answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire import (
    CellId,
    CoarsePosition,
    Csi,
    MaxRespTime,
    MeasuredAt,
    QualityRequest,
    RequestId,
    WholeMinutes,
)
from fingerpost.wire_model import WireModel, WireRequest, optional
from fingerpost.wire_provenance import ArtifactReference, FeatureSource, Provenance
from fingerpost.wire_shapes import StatedLocation

Azimuth = Annotated[float, Field(ge=-360, le=360)]


class PathFeatures(WireRequest):
    """What the base station measured in addition to the CSI. Azimuths are compass degrees, clockwise from north."""

    departure_azimuth_deg: Azimuth | None = optional("Azimuth at which the strongest path leaves the base station.")
    arrival_azimuth_deg: Azimuth | None = optional("Azimuth from which the strongest path arrives at the user.")
    distance: Annotated[float, Field(ge=0, le=1e6)] | None = optional("Length of the strongest path, metres.")
    gain_db: Annotated[float, Field(ge=-300, le=100)] | None = optional("Large-scale gain of the channel, decibels.")


class Snapshot(WireRequest):
    """CSI at one point of a trajectory."""

    csi: Csi
    coarse_position: CoarsePosition | None = optional(
        "For cells that the artifact for trajectories has not learned; elsewhere the service does not use it."
    )
    path_features: PathFeatures | None = optional(
        "For cells that the artifact for trajectories has learned; elsewhere the service does not use them. It "
        "estimates absent ones from the CSI."
    )
    timestamp: MeasuredAt | None = optional()


class TrajectoryRequest(QualityRequest):
    """Snapshots of one user at points near each other."""

    cell_id: CellId
    snapshots: Annotated[
        list[Snapshot],
        Field(
            min_length=1,
            description="In a cell that the artifact for trajectories has learned: as many as its `vertices`, all "
            "within its `radius` of one of them. In any other cell: at most as many as the `snapshots` of the "
            "Mateformer artifact's `tracks` (see /models).",
        ),
    ]
    max_resp_time: MaxRespTime | None = optional()
    request_id: RequestId | None = optional()


class FeatureSources(WireModel):
    """Where each path feature came from: the request, or an estimator that reads the CSI."""

    departure_azimuth_deg: FeatureSource
    arrival_azimuth_deg: FeatureSource
    distance: FeatureSource
    gain_db: FeatureSource


class Centroid(StatedLocation):
    """The centroid of all points: located as a point of its own by the artifact for trajectories, else their mean."""


class LocatedPoint(StatedLocation):
    """Where one snapshot was measured."""

    age_of_location_estimate: WholeMinutes
    timestamp_of_location_estimate: datetime
    path_features: FeatureSources | None = optional("By the artifact for trajectories: where they came from.")
    provenance: Provenance | None = optional(
        "By comparison with fingerprints: how this point was located, and with how many other snapshots."
    )


class TrajectoryProvenance(WireModel):
    """How the points were located by the artifact for trajectories."""

    source: Literal["scadf-moe"] = "scadf-moe"
    artifact: ArtifactReference
    cell_version: str
    path_features: Annotated[
        FeatureSource,
        Field(description="What the circles were calibrated for: `estimated` if any path feature was estimated."),
    ]
    within_radius: Annotated[
        bool,
        Field(description="Whether the located points lie as near to each other as the circles were calibrated for."),
    ]


class JointProvenance(WireModel):
    """The points were located by comparison with the fingerprints of the cell: each says how."""

    source: Literal["mateformer"] = "mateformer"
    artifact: ArtifactReference
    cell_version: str


class TrajectoryResponse(WireModel):
    """Points in the order of the request's snapshots."""

    request_id: str | None = optional()
    points: list[LocatedPoint]
    centroid: Centroid
    provenance: Annotated[TrajectoryProvenance | JointProvenance, Field(discriminator="source")]
