"""How a user was located: what every answer of `POST /locate` and `/locate/batch` carries."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fingerpost.wire_model import WireModel, optional

LosProbability = Annotated[float, Field(ge=0, le=1, description="Probability that the first path is the direct one.")]


CoarsePositionIgnored = Literal["COARSE_POSITION_OUTSIDE_CELL", "COARSE_POSITION_CONTRADICTED"]


class ArtifactReference(WireModel):
    """The artifact that located a user."""

    name: str
    version: str
    digest: str


FeatureSource = Literal["measured", "estimated"]

Method = Literal["scadf-moe", "mateformer", "weighted-knn", "lwlm", "coarse"]


class Fallback(WireModel):
    """A method that was to locate the user and did not."""

    method: Method
    cause: Annotated[str, Field(description="Why, as in problems.", examples=["CELL_TOO_SMALL"])]


FALLBACKS = (
    "The methods that come before this one and did not locate the user, in their order. Absent: this is the first "
    "method that the cell's model policy allows."
)

COARSE_POSITION_IGNORED = (
    "Why the service located the user without the coarse position that was sent: it lies outside the cell, or the CSI "
    "contradicts it."
)
CALIBRATED_H_ACCURACY = (
    "The 1-sigma error of coarse positions that the ellipse was calibrated for, metres. Absent: calibrated without a "
    "coarse position."
)


class Provenance(WireModel):
    """How a user was located by comparison with fingerprints."""

    source: Literal["mateformer"] = "mateformer"
    artifact: ArtifactReference
    cell_version: str
    neighbours: Annotated[int, Field(description="The number of fingerprints that the CSI was compared with.")]
    passes: Annotated[
        int, Field(description="How often the user was located, with a new neighbourhood around the last answer.")
    ]
    retrieval: Annotated[
        Literal["fused"],
        Field(description="How the service found the neighbourhood: by the CSI and, where sent, the coarse position."),
    ]
    coarse_position_used: bool
    coarse_position_ignored: CoarsePositionIgnored | None = optional(COARSE_POSITION_IGNORED)
    csi_doubtful: Literal[True] | None = optional(
        "The CSI is unlike that of all but 2 % of the cell's users: the circle holds wherever the user is, by the fix "
        "or in the cell. CSI unlike that of all but 0.5 % is foreign."
    )
    calibrated_h_accuracy: float | None = optional(CALIBRATED_H_ACCURACY)
    snapshots: Annotated[int, Field(ge=2)] | None = optional(
        "The number of snapshots of this user that were located together, this one included. Absent: this one alone."
    )
    fallbacks: list[Fallback] | None = optional(FALLBACKS)


class TrackProvenance(WireModel):
    """How the last point of a track was located, together with the points before it."""

    source: Literal["scadf-moe"] = "scadf-moe"
    artifact: ArtifactReference
    cell_version: str
    snapshots: Annotated[int, Field(description="The number of snapshots located together, this one included.")]
    path_features: Annotated[
        FeatureSource,
        Field(
            description="Where the AoD, AoA, range and path gain came from. `POST /locate` takes none: the service "
            "estimates them from CSI."
        ),
    ]


class KnnProvenance(WireModel):
    """How a user was located by the fingerprints with the most similar signal, without a model."""

    source: Literal["weighted-knn"] = "weighted-knn"
    cell_version: str
    coarse_position_used: bool
    coarse_position_ignored: CoarsePositionIgnored | None = optional(COARSE_POSITION_IGNORED)
    calibrated_h_accuracy: float | None = optional(CALIBRATED_H_ACCURACY)
    fallbacks: list[Fallback] | None = optional(FALLBACKS)


class CoarseProvenance(WireModel):
    """The answer is the coarse position that was sent, with its own error: no method located the user."""

    source: Literal["coarse"] = "coarse"
    cell_version: str
    fallbacks: list[Fallback] | None = optional(FALLBACKS)


class StationShare(WireModel):
    """One of several base stations that located a user together."""

    cell_id: str
    cell_version: str
    weight: Annotated[float, Field(ge=0, le=1, description="How much it counted. All weights sum to 1.")]
    distance: Annotated[
        float, Field(description="From the estimate to where this base station alone locates the user, metres.")
    ]
    los_probability: LosProbability
    outvoted: Annotated[
        bool,
        Field(
            description="Whether this base station contradicts others that outnumber it. If that is so for most users, "
            "check the description of its cell."
        ),
    ]


class LwlmProvenance(WireModel):
    """How a user was located by what base stations alone measure, without fingerprints.

    A linear array cannot tell front from back: the user is taken to be in front of it. The range needs clocks in step.
    """

    source: Literal["lwlm"] = "lwlm"
    artifact: ArtifactReference
    cell_version: str
    fallbacks: list[Fallback] | None = optional(FALLBACKS)
    los_probability: LosProbability | None = optional("Of the one base station. Absent: see `stations`.")
    coarse_position_ignored: Literal["COARSE_POSITION_NOT_TAKEN", "COARSE_POSITION_CONTRADICTED"] | None = optional(
        "Why the service located the user without the coarse position that was sent: this model takes none; or, beyond "
        "that, the estimate contradicts it."
    )
    stations: list[StationShare] | None = optional(
        "Where several base stations measured the user: each, in the order of the request's measurements."
    )
    disagreement: Literal["STATIONS_DISAGREE"] | None = optional(
        "The base stations locate the user farther apart than their errors explain, and no majority of them supports "
        "the estimate. The ellipse then holds the ellipse of every one of them."
    )


UserProvenance: TypeAlias = Provenance | TrackProvenance | KnnProvenance | LwlmProvenance | CoarseProvenance
