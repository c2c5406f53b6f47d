"""Trajectories in service: the engine for them and the cells that it can locate in, where one is configured."""

import math
from functools import partial

from models.artifact import TrajectoryManifest
from reference_db.manifest import Manifest
from service import errors
from service.cells.descriptions import DescribedCell, DescribedCells
from service.inference.admission import LANES, Lane
from service.inference.engine import TrajectoryEngine
from service.telemetry.trajectory_metrics import TrajectoryMetrics


def check_learned(artifact: TrajectoryManifest, version: Manifest) -> None:
    """Checks that the artifact can locate trajectories in a cell.

    Raises `ModelNotAllowed` when the cell's model policy excludes the artifact, `CellNotServed` when the artifact has
    not learned the cell or its CSI shape, or `BandNotServed`.
    """
    cell, csi = version.cell, artifact.csi
    if version.model not in ("auto", artifact.family):
        raise errors.ModelNotAllowed(
            "/cellId", f"the cell's model policy is {version.model}: it accepts no trajectories"
        )
    if cell.cell_id not in artifact.cells:
        raise errors.CellNotServed("/cellId", "the artifact for trajectories was not trained on this cell")
    if (cell.antennas, cell.subcarriers) != (csi.antennas, csi.subcarriers):
        raise errors.CellNotServed(
            "/cellId",
            f"the cell's CSI is {cell.antennas} x {cell.subcarriers}, the artifact for trajectories expects "
            f"{csi.antennas} x {csi.subcarriers} (antennas x subcarriers)",
        )
    if not any(math.isclose(cell.carrier_frequency, band, rel_tol=1e-6) for band in artifact.carrier_frequencies):
        bands = ", ".join(f"{band / 1e9:g}" for band in artifact.carrier_frequencies)
        raise errors.BandNotServed(
            "/cellId",
            f"the cell's carrier is {cell.carrier_frequency / 1e9:g} GHz, the artifact for trajectories was trained on "
            f"{bands} GHz",
        )
    if not math.isclose(cell.bandwidth, csi.bandwidth, rel_tol=1e-6):
        raise errors.BandNotServed(
            "/cellId",
            f"the cell's bandwidth is {cell.bandwidth / 1e6:g} MHz, the artifact for trajectories expects "
            f"{csi.bandwidth / 1e6:g} MHz",
        )


class Trajectories:
    """The cells and the engine that serves them. A request takes the engine once and holds it to its end."""

    def __init__(self, engine: TrajectoryEngine, cells: DescribedCells, metrics: TrajectoryMetrics) -> None:
        self._metrics = metrics
        self.cells = cells
        self.use(engine)
        for lane in LANES:
            metrics.dispatches.watch_queue(lane, partial(self._count_waiting, lane))

    def use(self, engine: TrajectoryEngine) -> None:
        """Puts an engine into service; requests in progress keep the one before."""
        self.engine = engine  # for any thread
        self._metrics.artifact.info(engine.labels)

    async def serve(self, cell_id: str, engine: TrajectoryEngine, deadline: float) -> DescribedCell:
        """Returns a cell as it is now. Raises what `DescribedCells.describe` and `check_learned` raise."""
        cell = await self.cells.describe(cell_id, deadline)
        check_learned(engine.artifact.manifest, cell.version)
        return cell

    def check(self, version: Manifest) -> None:
        """Raises what `check_learned` raises."""
        check_learned(self.engine.artifact.manifest, version)

    def _count_waiting(self, lane: Lane) -> int:
        return self.engine.dispatcher.waiting(lane)

    def close(self) -> None:
        """Stops the engine."""
        self.engine.close()
