"""The models of a service as they go over the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel, optional

ModelState = Literal["active", "activating", "available"]


class ModelRange(WireModel):
    """The values from `minimum` to `maximum`, both included."""

    minimum: float
    maximum: float


class Radios(WireModel):
    """The arrays and channels that the model was trained on. Hertz; `spacing` of the antennas in wavelengths.

    `antennas` counts both polarisations.
    """

    antennas: ModelRange
    rows: ModelRange
    columns: ModelRange
    polarisations: ModelRange
    spacing: ModelRange
    subcarriers: ModelRange
    bandwidth: ModelRange
    carrier_frequency: ModelRange


class Band(WireModel):
    """A channel on any of several carriers, in hertz."""

    antennas: int
    subcarriers: int
    bandwidth: float


class ListedModel(WireModel):
    """The fields that models of all families have."""

    folder: Annotated[str, Field(description="The name by which the model is activated.")]
    state: Annotated[ModelState, Field(description="The state on this replica. The active model locates users.")]
    configured: Annotated[
        bool,
        Field(description="Whether the settings name this model. It serves while no model of its family is activated."),
    ]
    name: str
    version: str
    digest: str
    created_at: str
    execution_providers: Annotated[
        list[str], Field(description="The execution providers that run the model. Empty unless it is active.")
    ]
    training_data_digest: str
    metrics: dict[str, float]
    opset: int


class ModelTracks(WireModel):
    """The tracks whose snapshots a model locates together."""

    snapshots: Annotated[int, Field(description="Most snapshots that are located together.")]
    stride: Annotated[float, Field(description="Metres from snapshot to snapshot, at most.")]


class Model(ListedModel):
    """A model for any cell whose array and channel are inside its ranges.

    It describes a snapshot by `features` numbers. `tilePitch` is in metres, `metrics` are metres on held-out data.
    """

    family: Literal["mateformer"] = "mateformer"
    csi: Radios
    features: int
    neighbourhood_size: int
    minimum_neighbours: int
    passes: int
    tile_pitch: float
    tracks: ModelTracks | None = optional("Absent: the model locates no tracks.")


Scales = Annotated[
    dict[int, float],
    Field(description="By confidence in per cent, the distance in standard deviations that so many errors are within."),
]


class TrajectoryScales(WireModel):
    """How far errors reach beyond the model's covariances: Mahalanobis distances of held-out points and centroids."""

    vertex: Scales
    centroid: Scales


class PathFeatureScales(WireModel):
    """Scales by where the path features come from: measured by the base station, or estimated from the CSI."""

    measured: TrajectoryScales
    estimated: TrajectoryScales


class TrajectoryModel(ListedModel):
    """A model for trajectories in the cells that it was trained in, on these carriers (hertz).

    It takes `vertices` snapshots, measured within `radius` metres of one of them; as located, they may lie `tolerance`
    metres farther apart. `metrics` are metres and shares on held-out data.
    """

    family: Literal["scadf-moe"] = "scadf-moe"
    csi: Band
    carrier_frequencies: list[float]
    cells: list[str]
    vertices: int
    radius: float
    tolerance: float
    scales: PathFeatureScales


class Channels(WireModel):
    """The channels that a model was trained for: any of these counts, any frequency (hertz) in between, a linear array.

    `spacing` of the antennas in wavelengths.
    """

    antennas: list[int]
    subcarriers: list[int]
    minimum_bandwidth: float
    maximum_bandwidth: float
    minimum_carrier_frequency: float
    maximum_carrier_frequency: float
    spacing: float


class ErrorScales(WireModel):
    """How far errors reach beyond predicted standard deviations; Mahalanobis distances for `position` and `fused`."""

    range: Scales
    aoa: Scales
    position: Scales
    fused: Scales


class MeasuringModel(ListedModel):
    """A model for `POST /measure` and for cells without fingerprints, for any base station with one of its channels.

    It joins `stations` base stations at most.
    """

    family: Literal["lwlm"] = "lwlm"
    csi: Channels
    stations: int
    scales: ErrorScales


class UnusableModel(WireModel):
    """A folder whose artifact cannot be read."""

    folder: str
    reason: str


class ReplicaModels(WireModel):
    """What a replica serves. Replicas report it every few seconds."""

    name: str
    artifacts: Annotated[dict[str, str], Field(description="The digest of the model that serves, by family.")]
    problem: str | None = optional("Why the replica does not serve the activated model.")
    unreported: str | None = optional(
        "Why other replicas do not list this replica: it may not write to the reference database. An activation does "
        "not wait for it. Only the replica itself knows."
    )


class PastActivation(WireModel):
    """An activation of a model on all replicas."""

    family: str
    folder: str
    digest: str
    name: str | None = optional("Absent where this replica does not have the model any more.")
    version: str | None = optional("Absent where this replica does not have the model any more.")
    activated_at: datetime | None = optional("Absent for an activation by release 0.9 or earlier.")


class CellFailure(WireModel):
    """A cell in which users would be located far worse."""

    cell_id: str
    reason: str


class CellComparison(WireModel):
    """Both models in a cell: on the same of its own fingerprints, each left out of the comparison."""

    cell_id: str
    median_before: float | None = optional(
        "Median error of the model before, metres. Absent: it has no answer for most of the fingerprints."
    )
    median_after: float | None = optional("Median error of the activated model, likewise.")


class CellCheck(WireModel):
    """The comparison of a model with the one before: `checked` of the `cells` that the one before serves."""

    cells: int
    checked: int
    failed: list[CellFailure]
    compared: list[CellComparison] = Field(default_factory=list, description="The checked cells.")


class ModelList(WireModel):
    """The models of this replica, the active ones first."""

    models: list[Annotated[Model | TrajectoryModel | MeasuringModel, Field(discriminator="family")]]
    unusable: Annotated[list[UnusableModel], Field(description="Artifacts that cannot be read.")]
    activated: Annotated[
        dict[str, str],
        Field(description="The digest of the model that was activated last, by family. It serves on all replicas."),
    ]
    replicas: Annotated[
        list[ReplicaModels],
        Field(description="The replicas of this installation. Only this one while the store does not answer."),
    ]
    history: list[PastActivation] = Field(
        default_factory=list,
        description="The last 50 activations of each family, newest first. Empty while the models of the settings have "
        "served since the start, and while the store does not answer.",
    )
    check: CellCheck | None = optional("Only after an activation: the check of cells that it made.")
