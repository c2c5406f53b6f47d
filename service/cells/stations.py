"""Base stations in service: the engine that measures their snapshots, where one is configured."""

import math
from functools import partial
from typing import NamedTuple

from models.artifact import LwlmManifest
from reference_db.cell import Cell
from reference_db.manifest import Manifest
from reference_db.path_features import USER_HEIGHT
from service import errors
from service.cells.descriptions import DescribedCell, DescribedCells
from service.inference.admission import LANES, Lane
from service.inference.engine import LwlmEngine
from service.telemetry.measure_metrics import MeasureMetrics

# Metres between antenna and users, up or down. Beyond, which training never saw, ranges may come out negative.
_HIGHEST = 150.0


class Station(NamedTuple):
    """A base station that locates users without fingerprints, and the engine that measures what it hears."""

    cell: DescribedCell
    engine: LwlmEngine


def check_station(artifact: LwlmManifest, version: Manifest) -> None:
    """Checks that the artifact can measure snapshots of a cell's base station.

    Raises what `check_allows_station` and `check_channel` raise.
    """
    check_allows_station(version)
    check_channel(artifact, version.cell)


def check_allows_station(version: Manifest) -> None:
    """Raises `ModelNotAllowed` when the cell's model policy excludes models that need no fingerprints."""
    if version.model not in ("auto", "lwlm"):
        raise errors.ModelNotAllowed("/cellId", f"the cell's model policy is {version.model}, not lwlm")


def check_channel(artifact: LwlmManifest, cell: Cell) -> None:
    """Raises `CellNotServed` for an array or CSI shape that the artifact was not trained with and for a height that no
    base station has, `BandNotServed` for a carrier or bandwidth that it was not trained with.
    """
    csi, array = artifact.csi, cell.array
    for name, count in (("rows", array.rows), ("polarisations", array.polarisations)):
        if count != 1:
            raise errors.CellNotServed("/cellId", f"array.{name} is {count}, the artifact lwlm was trained with 1")
    if not math.isclose(array.spacing, csi.spacing, rel_tol=1e-6):
        raise errors.CellNotServed(
            "/cellId", f"array.spacing is {array.spacing:g}, the artifact lwlm was trained with {csi.spacing:g}"
        )
    for name, found, known in (
        ("array.columns", cell.antennas, csi.antennas),
        ("subcarriers", cell.subcarriers, csi.subcarriers),
    ):
        if found not in known:
            listed = ", ".join(map(str, sorted(known)))
            raise errors.CellNotServed("/cellId", f"{name} is {found}, the artifact lwlm was trained with {listed}")
    if abs(cell.height - USER_HEIGHT) > _HIGHEST:
        raise errors.CellNotServed(
            "/cellId", f"height is {cell.height:g} m, the artifact lwlm locates users within {_HIGHEST:g} m"
        )
    for name, hertz, least, most in (
        ("bandwidth", cell.bandwidth, csi.minimum_bandwidth, csi.maximum_bandwidth),
        ("carrierFrequency", cell.carrier_frequency, csi.minimum_carrier_frequency, csi.maximum_carrier_frequency),
    ):
        if not least * (1 - 1e-6) <= hertz <= most * (1 + 1e-6):
            raise errors.BandNotServed(
                "/cellId",
                f"{name} is {hertz / 1e6:g} MHz, the artifact lwlm was trained with {least / 1e6:g} to "
                f"{most / 1e6:g} MHz",
            )


class Stations:
    """The cells and the engine that measures in them. A request takes the engine once and holds it to its end."""

    def __init__(self, engine: LwlmEngine, cells: DescribedCells, metrics: MeasureMetrics) -> None:
        self._metrics = metrics
        self.cells = cells
        self.use(engine)
        for lane in LANES:
            metrics.dispatches.watch_queue(lane, partial(self._count_waiting, lane))

    def use(self, engine: LwlmEngine) -> None:
        """Puts an engine into service; requests in progress keep the one before."""
        self.engine = engine  # for any thread
        self._metrics.artifact.info(engine.labels)

    async def serve(self, cell_id: str, engine: LwlmEngine, deadline: float) -> DescribedCell:
        """Returns a cell as it is now. Raises what `DescribedCells.describe` and `check_station` raise."""
        cell = await self.cells.describe(cell_id, deadline)
        check_station(engine.artifact.manifest, cell.version)
        return cell

    def check(self, version: Manifest) -> None:
        """Raises what `check_station` raises."""
        check_station(self.engine.artifact.manifest, version)

    def _count_waiting(self, lane: Lane) -> int:
        return self.engine.dispatcher.waiting(lane)

    def close(self) -> None:
        """Stops the engine."""
        self.engine.close()
