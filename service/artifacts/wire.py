"""Models as they go over the wire."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel, optional
from models.artifact import LwlmManifest, Manifest, MateformerManifest

State = Literal["active", "activating", "available"]


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
    state: Annotated[State, Field(description="The state on this replica. The active model locates users.")]
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


class Radii(WireModel):
    """Radii in metres of the circles that contain 95 % of the points, and of the centroids."""

    vertex: float
    centroid: float


class PathFeatureRadii(WireModel):
    """Radii by where the path features come from: measured by the base station, or estimated from the CSI."""

    measured: Radii
    estimated: Radii


class TrajectoryModel(ListedModel):
    """A model for trajectories in the cells that it was trained in, on these carriers (hertz).

    It takes `vertices` snapshots, measured within `radius` metres of one of them. `metrics` are metres on held-out
    data.
    """

    family: Literal["scadf-moe"] = "scadf-moe"
    csi: Band
    carrier_frequencies: list[float]
    cells: list[str]
    vertices: int
    radius: float
    radii: PathFeatureRadii


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
    """Factors on predicted standard deviations within which 95 % of held-out errors lie.

    Those of `position` and `fused` are on the Mahalanobis distance.
    """

    range: float
    aoa: float
    position: float
    fused: float


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


class CellFailure(WireModel):
    """A cell in which users would be located far worse."""

    cell_id: str
    reason: str


class CellCheck(WireModel):
    """The comparison of a model with the one before: `checked` of the `cells` that the one before serves."""

    cells: int
    checked: int
    failed: list[CellFailure]


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
    check: CellCheck | None = optional("Only after an activation: the check of cells that it made.")


def describe_model(
    directory: Path,
    manifest: Manifest,
    digest: str,
    *,
    state: State,
    configured: bool,
    providers: list[str],
) -> Model | TrajectoryModel | MeasuringModel:
    """The model in `directory`. `providers`: the execution providers that run it."""
    fields: dict[str, Any] = {
        "folder": directory.name,
        "state": state,
        "configured": configured,
        "digest": digest,
        "execution_providers": providers,
    }
    if isinstance(manifest, MateformerManifest):
        ranges = {name: ModelRange(**ends) for name, ends in manifest.csi.model_dump().items()}
        return Model(**_copy_fields(manifest, Model), **fields, csi=Radios(**ranges))
    if isinstance(manifest, LwlmManifest):
        return MeasuringModel(
            **_copy_fields(manifest, MeasuringModel),
            **fields,
            csi=Channels(**manifest.csi.model_dump(mode="json")),
            scales=ErrorScales(**manifest.scales.model_dump()),
        )
    measured, estimated = (Radii(**one.model_dump()) for one in (manifest.radii.measured, manifest.radii.estimated))
    return TrajectoryModel(
        **_copy_fields(manifest, TrajectoryModel),
        **fields,
        csi=Band(**manifest.csi.model_dump()),
        radii=PathFeatureRadii(measured=measured, estimated=estimated),
    )


def _copy_fields(manifest: Manifest, kind: type[ListedModel]) -> dict[str, Any]:
    """The fields that the manifest has under the same name."""
    return manifest.model_dump(
        mode="json", include=set(kind.model_fields) - {"csi", "radii", "scales", "digest", "family"}
    )
