"""Trajectories as they go over the wire."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from fingerpost.wire import (
    ArtifactReference,
    CellId,
    Csi,
    Fulfilment,
    Local2dPointUncertaintyEllipse,
    MaxRespTime,
    PointUncertaintyEllipse,
    RequestId,
    Timestamp,
    WantedAccuracy,
    WholeMinutes,
    WireStruct,
)

CueSource = Literal["measured", "estimated"]

Azimuth = Annotated[float, Meta(ge=-360, le=360)]


class _Struct(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What requests are made of."""


class Cues(_Struct, frozen=True, kw_only=True):
    """What the base station measured beside the CSI. Azimuths are degrees counter-clockwise from east."""

    aod_deg: (
        Annotated[Azimuth, Meta(description="In which direction the strongest path leaves the base station.")]
        | UnsetType
    ) = UNSET
    aoa_deg: Annotated[Azimuth, Meta(description="From which direction, seen by the user, it arrives.")] | UnsetType = (
        UNSET
    )
    distance: Annotated[float, Meta(ge=0, le=1e6, description="Its length, metres.")] | UnsetType = UNSET
    gain_db: (
        Annotated[float, Meta(ge=-300, le=100, description="Large-scale gain of the channel, decibels.")] | UnsetType
    ) = UNSET


class Snapshot(_Struct, frozen=True, kw_only=True):
    csi: Csi
    cues: Annotated[Cues, Meta(description="Those left out are estimated from the CSI.")] | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET


class TrajectoryRequest(_Struct, frozen=True, kw_only=True):
    cell_id: CellId
    snapshots: Annotated[
        list[Snapshot],
        Meta(
            min_length=1,
            description="Of one user at points near each other: as many as the artifact's `vertices`, all of them "
            "within its `radius` of one (see /models).",
        ),
    ]
    h_accuracy: WantedAccuracy | UnsetType = UNSET
    max_resp_time: MaxRespTime | UnsetType = UNSET
    request_id: RequestId | UnsetType = UNSET


class CueSources(WireStruct, frozen=True, kw_only=True):
    """Where each cue came from: the request, or the CSI by a classical estimator."""

    aod_deg: CueSource
    aoa_deg: CueSource
    distance: CueSource
    gain_db: CueSource


class Centroid(WireStruct, frozen=True, kw_only=True):
    """The middle of all points, located as such."""

    location_estimate: PointUncertaintyEllipse
    local_location_estimate: Local2dPointUncertaintyEllipse
    h_accuracy: Annotated[float, Meta(description="Radius of the circle of this confidence, metres.")]
    accuracy_fulfilment_indicator: Fulfilment | UnsetType = UNSET


class LocatedPoint(Centroid, frozen=True, kw_only=True):
    """Where a snapshot was measured."""

    age_of_location_estimate: WholeMinutes
    timestamp_of_location_estimate: datetime
    cues: CueSources


class TrajectoryProvenance(WireStruct, frozen=True, kw_only=True):
    """Where the estimates come from; enough to compute them again."""

    source: Literal["scadf-moe"]
    artifact: ArtifactReference
    cell_version: str
    cues: Annotated[
        CueSource,
        Meta(description="What the circles were calibrated for: `estimated` as soon as one cue of any point is."),
    ]
    within_radius: Annotated[
        bool,
        Meta(description="Whether the points, as located, are as near to each other as the circles hold for."),
    ]


class TrajectoryResponse(WireStruct, frozen=True, kw_only=True):
    """Points in the order of the request's snapshots."""

    request_id: str | UnsetType = UNSET
    points: list[LocatedPoint]
    centroid: Centroid
    provenance: TrajectoryProvenance
