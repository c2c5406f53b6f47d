"""The manifests: ``artifact.json`` of each family that the service can run."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from models.artifact.graph import Graph
from models.artifact.scales import Scales
from models.artifact.tracks import TracksContract
from models.frozen import FrozenModel
from reference_db.cell import Cell

MATEFORMER_SCHEMA_VERSION = 2  # since 2 a model serves any radio inside ranges; in 1 it served one
TRAJECTORY_SCHEMA_VERSION = 2  # since 2 a model states covariances; in 1 all errors had one radius
LWLM_SCHEMA_VERSION = 2  # since 2 scales are known at several confidences; in 1 at 95 % only
RADII_CONFIDENCE = 0.95

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Range(FrozenModel):
    """The values from ``minimum`` to ``maximum``, both included."""

    minimum: float = Field(gt=0, description="The smallest value that is served.")
    maximum: float = Field(gt=0, description="The largest value that is served.")

    @model_validator(mode="after")
    def _is_not_empty(self) -> Range:
        if self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self

    def holds(self, value: float) -> bool:
        # The tolerance keeps 100 MHz inside a range that ends there, however it was computed.
        return self.minimum * (1 - 1e-6) <= value <= self.maximum * (1 + 1e-6)


class RadioContract(FrozenModel):
    """The ranges of arrays and channels that the model was trained on.

    Frequencies in hertz, ``spacing`` of the antennas in wavelengths. ``antennas`` counts both polarisations.
    """

    antennas: Range = Field(description="Elements of both polarisations together.")
    rows: Range = Field(description="Rows of the array.")
    columns: Range = Field(description="Columns of the array.")
    polarisations: Range = Field(description="1, or 2 slanted by 45 degrees.")
    spacing: Range = Field(description="Of neighbouring elements, wavelengths.")
    subcarriers: Range = Field(description="Subcarriers of a snapshot.")
    bandwidth: Range = Field(description="Hertz.")
    carrier_frequency: Range = Field(description="Hertz.")

    def reason_against(self, cell: Cell) -> str | None:
        """The first range that the cell is outside of, in words; None if it is inside all of them."""
        return self.reason_against_shape(cell) or self.reason_against_band(cell)

    def reason_against_shape(self, cell: Cell) -> str | None:
        """As `reason_against`, for the array and the number of subcarriers only."""
        array = cell.array
        return _first_outside(
            ("antennas", cell.antennas, self.antennas, "", 1.0),
            ("array.rows", array.rows, self.rows, "", 1.0),
            ("array.columns", array.columns, self.columns, "", 1.0),
            ("array.polarisations", array.polarisations, self.polarisations, "", 1.0),
            ("array.spacing", array.spacing, self.spacing, " wavelengths", 1.0),
            ("subcarriers", cell.subcarriers, self.subcarriers, "", 1.0),
        )

    def reason_against_band(self, cell: Cell) -> str | None:
        """As `reason_against`, for bandwidth and carrier only."""
        return _first_outside(
            ("bandwidth", cell.bandwidth, self.bandwidth, " MHz", 1e6),
            ("carrierFrequency", cell.carrier_frequency, self.carrier_frequency, " GHz", 1e9),
        )


def _first_outside(*values: tuple[str, float, Range, str, float]) -> str | None:
    """Of values with their name, range, unit, and what one of the unit is: the first outside its range, in words."""
    for name, value, known, unit, one in values:
        if not known.holds(value):
            ends = dict.fromkeys(f"{end / one:g}" for end in (known.minimum, known.maximum))
            return f"{name} is {value / one:g}{unit}, the artifact was trained on {' to '.join(ends)}{unit}"
    return None


class BandContract(FrozenModel):
    """The channel of a model that serves several carriers. ``bandwidth`` in hertz."""

    antennas: int = Field(gt=0, description="Antennas of a snapshot.")
    subcarriers: int = Field(gt=0, description="Subcarriers of a snapshot.")
    bandwidth: float = Field(gt=0, description="Hertz.")


class BaseManifest(FrozenModel):
    """The fields of ``artifact.json`` that every family has.

    A family adds ``family: Literal["its name"]`` and what the service must know to run the model. ``metrics`` are
    metres on held-out data.
    """

    schema_version: int = Field(description="Version of this manifest. The service refuses others.")
    family: str = Field(description="The model family.")
    name: str = Field(description="Name of the model.")
    version: str = Field(description="Version of the model.")
    created_at: str = Field(description="When it was exported, RFC 3339.")
    graphs: dict[str, Graph] = Field(min_length=1, description="The ONNX files by the name of the graph.")
    training_data_digest: str = Field(description="SHA-256 of what the model was trained on.")
    metrics: dict[str, float] = Field(description="Figures on held-out data, metres.")
    opset: int = Field(description="ONNX operator set of the graphs.")
    exporter: str = Field(description="The program that exported the graphs, with its version.")


class MateformerManifest(BaseManifest):
    """``artifact.json`` of a model that compares a user with fingerprints, in any cell whose radio is inside `csi`.

    Graph ``describe`` takes snapshots of one cell and matrices that the cell's array and grid determine (see
    `ChannelTransform`), and returns ``features`` float32 `[snapshots, features]`. All other graphs take these in place
    of CSI, so that one run may hold users of different radios: ``frame``, ``query`` and ``full``. Positions are metres
    east and north of the base station; ``covariances`` `[batch, queries, 2, 2]` are in square metres. ``query_few`` is
    optional: ``query`` with fewer bytes of weights, for runs with few users on a CPU.

    Graph ``track`` is optional. It locates the snapshots of one user together, after each has been located alone.
    ``query`` and ``full`` then return ``streams`` `[batch, queries, streams]` too, which it takes with what
    `describe_tracks` says: ``streams`` `[batch, snapshots, streams]`, ``numbers`` `[batch, snapshots, numbers]`,
    ``smoothed`` `[batch, snapshots, 2]` and ``sigma`` `[batch, snapshots]`. It returns ``positions`` `[batch,
    snapshots, 2]` and ``covariances`` `[batch, snapshots, 2, 2]`. `tracks` says what it is for.

    The service fetches ``neighbourhood_size`` fingerprints for a request and never uses fewer than
    ``minimum_neighbours``. It locates a user ``passes`` times and fetches the neighbourhood again around the previous
    estimate. ``tile_pitch`` (metres) is the coarsest grid that a coarse position may be snapped to without a loss of
    accuracy.
    """

    schema_version: Literal[2] = Field(description="Version of this manifest. The service refuses others.")
    family: Literal["mateformer"] = Field(description="The model family.")
    csi: RadioContract = Field(description="The radios that it serves.")
    features: int = Field(gt=0, description="Numbers that `describe` makes of a snapshot.")
    neighbourhood_size: int = Field(gt=0, description="Fingerprints that a user is compared with.")
    minimum_neighbours: int = Field(gt=0, description="Fewest fingerprints that the model may be given.")
    passes: int = Field(gt=0, description="How often a user is located, each time around the previous estimate.")
    tile_pitch: float = Field(ge=0, description="Metres of the coarsest grid that a coarse position may be snapped to.")
    tracks: TracksContract | None = Field(
        None, description="The tracks that the graph `track` locates. Absent or null: the artifact locates none."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_not_of_before(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("schema_version") == 1:
            raise ValueError(
                "schema version 1 is no longer served: such a model knows one array and one grid only. Train it "
                "again, or take one of schema version 2"
            )
        return fields

    @field_validator("graphs")
    @classmethod
    def _has_its_graphs(cls, graphs: dict[str, Graph]) -> dict[str, Graph]:
        whole = {"describe", "full", "frame", "query"}
        if graphs.keys() - {"track"} not in ({"describe", "full"}, whole, whole | {"query_few"}):
            raise ValueError(
                "the graphs must be 'describe' and 'full', for frames 'frame' and 'query', and beside them 'query_few' "
                "and 'track' if there are such"
            )
        few, many = graphs.get("query_few"), graphs.get("query")
        if few and many and (few.inputs, few.outputs) != (many.inputs, many.outputs):
            raise ValueError("'query_few' must take and return what 'query' does")
        return graphs

    @model_validator(mode="after")
    def _says_what_tracks_need(self) -> Self:
        if ("track" in self.graphs) != (self.tracks is not None):
            raise ValueError("the graph 'track' and the field 'tracks' need each other")
        blind = [name for name in ("full", "query") if name in self.graphs and not self._returns_streams(name)]
        if self.tracks is not None and blind:
            raise ValueError(f"'track' takes streams, which {' and '.join(map(repr, blind))} must return")
        return self

    def _returns_streams(self, graph: str) -> bool:
        return any(spec.name == "streams" for spec in self.graphs[graph].outputs)

    def fewest_fingerprints(self, confidence: float) -> int:
        """The fewest fingerprints of a cell that can be served with error radii of this confidence, between 0 and 1."""
        return max(self.minimum_neighbours, fewest_for_radius(confidence))


def fewest_for_radius(confidence: float) -> int:
    """The smallest n for which n errors have a finite conformal quantile: ceil((n + 1) · confidence) is at most n."""
    # The tolerance keeps 0.95 / 0.05 at 19: in binary the quotient is slightly larger.
    return max(1, math.ceil(confidence / (1 - confidence) - 1e-9))


class TrajectoryScales(FrozenModel):
    """The scales of the covariances of a vertex and of the centroid."""

    vertex: Scales = Field(description="Of one point.")
    centroid: Scales = Field(description="Of the centroid.")


class PathFeatureScales(FrozenModel):
    """Scales by the source of the path features: measured by the base station, or estimated from the CSI."""

    measured: TrajectoryScales = Field(description="The base station measured the path features.")
    estimated: TrajectoryScales = Field(description="The service estimated them from the CSI.")


class TrajectoryManifest(BaseManifest):
    """``artifact.json`` of a model that locates short trajectories in the cells that it was trained on.

    The only graph is ``full``. Input ``csi`` is float32 `[batch, vertices, antennas, subcarriers, 2]`. Input
    ``path_features`` is float32 `[batch, vertices, 4]`: AoD and AoA (azimuths in radians, counter-clockwise from east),
    range (length of the strongest path, metres) and large-scale gain (linear power). Output ``positions`` is float32
    `[batch, vertices + 1, 2]`: each vertex, then the centroid, in metres east and north of the base station. Output
    ``covariances`` `[batch, vertices + 1, 2, 2]` is in square metres; `scales` say how far errors reach beyond it.

    The model is valid for the named `cells` on the `carrier_frequencies` (hertz), and for points within `radius`
    metres of one of them. Located points may lie `tolerance` metres farther apart: 95 % of held-out points are located
    so exactly.
    """

    schema_version: Literal[2] = Field(description="Version of this manifest. The service refuses others.")
    family: Literal["scadf-moe"] = Field(description="The model family.")
    csi: BandContract = Field(description="The channel that it serves.")
    carrier_frequencies: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="Hertz, of the bands that it serves."
    )
    cells: tuple[str, ...] = Field(min_length=1, description="Names of the cells that it has learned.")
    vertices: int = Field(gt=1, description="Snapshots that are located together.")
    radius: float = Field(gt=0, description="Metres within which all points must lie of one of them.")
    tolerance: float = Field(gt=0, description="Metres that located points may lie farther apart.")
    scales: PathFeatureScales = Field(description="How far errors reach beyond the predicted covariances.")

    @model_validator(mode="before")
    @classmethod
    def _is_not_of_before(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("schema_version") == 1:
            raise ValueError(
                "schema version 1 is no longer served: such a model states no covariances. Train it again, or take "
                "one of schema version 2"
            )
        return fields

    @field_validator("graphs")
    @classmethod
    def _has_one_graph(cls, graphs: dict[str, Graph]) -> dict[str, Graph]:
        if graphs.keys() != {"full"}:
            raise ValueError("the only graph must be 'full'")
        return graphs


class LwlmContract(FrozenModel):
    """The channels that the model was trained on. Frequencies in hertz, ``spacing`` of the antennas in wavelengths.

    The array has one row. Every number of `antennas` goes with every number of `subcarriers`.
    """

    antennas: tuple[Count, ...] = Field(min_length=1, description="Numbers of antennas that it serves.")
    subcarriers: tuple[Count, ...] = Field(min_length=1, description="Numbers of subcarriers that it serves.")
    minimum_bandwidth: Positive = Field(description="Hertz.")
    maximum_bandwidth: Positive = Field(description="Hertz.")
    minimum_carrier_frequency: Positive = Field(description="Hertz.")
    maximum_carrier_frequency: Positive = Field(description="Hertz.")
    spacing: Positive = Field(description="Of neighbouring antennas, wavelengths.")

    @model_validator(mode="after")
    def _has_ranges(self) -> LwlmContract:
        if self.minimum_bandwidth > self.maximum_bandwidth:
            raise ValueError("minimum_bandwidth is above maximum_bandwidth")
        if self.minimum_carrier_frequency > self.maximum_carrier_frequency:
            raise ValueError("minimum_carrier_frequency is above maximum_carrier_frequency")
        return self


class LwlmScales(FrozenModel):
    """Scales of predicted standard deviations, and of covariances for ``position`` and ``fused``."""

    range: Scales = Field(description="Of the range.")
    aoa: Scales = Field(description="Of the angle.")
    position: Scales = Field(description="Of the position by one base station.")
    fused: Scales = Field(description="Of the position by several.")

    @field_validator("*", mode="before")
    @classmethod
    def _read_schema_1(cls, scales: Any) -> Any:
        """In schema version 1, scales were known at 95 % only, each as a number."""
        return {"factors": {95: scales}} if isinstance(scales, int | float) else scales


class LwlmManifest(BaseManifest):
    """``artifact.json`` of a model that measures and locates users of any base station of its contract.

    It needs no fingerprints. Graph ``full`` takes ``csi`` float32 `[batch, antennas, subcarriers, 2]` of any power, and
    ``configuration`` float32 `[batch, 2]`: bandwidth in hertz, height of the antenna above the user in metres. Its
    outputs are float32:

    - ``range`` `[batch, 2]`: length of the first path in metres (speed of light x time of arrival), and 1 sigma;
    - ``aoa`` `[batch, 2]`: angle of the first path off broadside in radians, counter-clockwise, folded into the front
      half plane because a linear array cannot tell front from back, and 1 sigma;
    - ``line_of_sight`` `[batch]`: probability;
    - ``position`` `[batch, 2]` and ``covariance`` `[batch, 2, 2]` in metres along broadside and to its left;
    - ``attention`` `[batch]`: what ``fuse`` weighs this base station by; ``embedding`` `[batch, width]`.

    Graph ``fuse`` joins base stations in one east-north frame: ``positions`` `[batch, stations, 2]`, ``covariances``
    `[batch, stations, 2, 2]` and ``attention`` `[batch, stations]` give ``position`` `[batch, 2]`, ``covariance``
    `[batch, 2, 2]` and ``weights`` `[batch, stations]`, which sum to 1. It was trained with `stations` at most.
    """

    schema_version: Literal[1, 2] = Field(description="Version of this manifest. The service refuses others.")
    family: Literal["lwlm"] = Field(description="The model family.")
    csi: LwlmContract = Field(description="The channels that it serves.")
    stations: int = Field(ge=2, description="Most base stations that are joined.")
    scales: LwlmScales = Field(description="How far errors reach beyond the predicted spreads.")

    @field_validator("graphs")
    @classmethod
    def _has_its_graphs(cls, graphs: dict[str, Graph]) -> dict[str, Graph]:
        if graphs.keys() != {"full", "fuse"}:
            raise ValueError("the graphs must be 'full' and 'fuse'")
        return graphs


Manifest: TypeAlias = MateformerManifest | TrajectoryManifest | LwlmManifest  # the families that the service can run
