"""Everything that locates trajectories, where an artifact for them is configured."""

from models.artifact import load_trajectory_artifact
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.trajectory_cells import DescribedCell, TrajectoryCells, check_learned
from service.inference.trajectory_engine import TrajectoryEngine, start_trajectory_engine
from service.settings import Settings
from service.telemetry.trajectory_metrics import TrajectoryMetrics


class Trajectories:
    """The cells, and the engine that serves them: a request takes it once, and holds it to its end."""

    def __init__(self, engine: TrajectoryEngine, store: Store, metrics: TrajectoryMetrics, waiting_limit: int) -> None:
        self._metrics = metrics
        self.cells = TrajectoryCells(store, waiting_limit)
        self.use(engine)
        metrics.queues(lambda lane: self.engine.dispatcher.waiting(lane))

    def use(self, engine: TrajectoryEngine) -> None:
        """From now on; requests that have begun end with the one before."""
        self.engine = engine  # for any thread
        self._metrics.artifact.info(engine.labels)

    async def serve(self, cell_id: str, engine: TrajectoryEngine) -> DescribedCell:
        """A cell as it is now. Raises what `TrajectoryCells.described` and `check_learned` raise."""
        cell = await self.cells.described(cell_id)
        check_learned(engine.artifact.manifest, cell.version)
        return cell

    def check(self, version: Manifest) -> None:
        """Raises what `check_learned` raises."""
        check_learned(self.engine.artifact.manifest, version)

    def close(self) -> None:
        self.cells.close()
        self.engine.close()


def load_trajectories(settings: Settings, store: Store, metrics: TrajectoryMetrics) -> Trajectories | None:
    """Raises `models.artifact.ArtifactError` or `service.inference.session.ModelUnusable`."""
    if settings.trajectory_artifact_directory is None:
        return None
    artifact = load_trajectory_artifact(settings.trajectory_artifact_directory)
    return Trajectories(start_trajectory_engine(artifact, settings, metrics), store, metrics, settings.waiting_limit)
