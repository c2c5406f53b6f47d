"""Trajectories in service: the engine for them and the cells that it can locate in, where one is configured."""

from functools import partial

from reference_db.manifest import Manifest
from service.cells.trajectory_cells import DescribedCell, TrajectoryCells, check_learned
from service.inference.admission import LANES, Lane
from service.inference.engine import TrajectoryEngine
from service.telemetry.trajectory_metrics import TrajectoryMetrics


class Trajectories:
    """The cells and the engine that serves them. A request takes the engine once and holds it to its end."""

    def __init__(self, engine: TrajectoryEngine, cells: TrajectoryCells, metrics: TrajectoryMetrics) -> None:
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
        """Returns a cell as it is now. Raises what `TrajectoryCells.describe` and `check_learned` raise."""
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
