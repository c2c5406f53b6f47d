"""Everything that locates trajectories, where an artifact for them is configured."""

from typing import NamedTuple

from models.artifact import TrajectoryArtifact, load_trajectory_artifact
from reference_db.store import Store
from service.admission import Admission
from service.dispatcher import Dispatcher
from service.schema import ArtifactReference
from service.settings import Settings
from service.trajectory_cells import TrajectoryCells
from service.trajectory_estimator import Trajectory, TrajectoryEstimator
from service.trajectory_metrics import TrajectoryMetrics
from service.trajectory_network import TrajectoryNetwork


class Trajectories(NamedTuple):
    artifact: TrajectoryArtifact
    network: TrajectoryNetwork
    cells: TrajectoryCells
    dispatcher: Dispatcher[Trajectory]

    @property
    def reference(self) -> ArtifactReference:
        manifest = self.artifact.manifest
        return ArtifactReference(name=manifest.name, version=manifest.version, digest=self.artifact.digest)

    def close(self) -> None:
        self.cells.close()
        self.network.close()


def load_trajectories(settings: Settings, store: Store, metrics: TrajectoryMetrics) -> Trajectories | None:
    """Raises `models.artifact.ArtifactError` or `service.network.NetworkUnusable`."""
    if settings.trajectory_artifact_directory is None:
        return None
    artifact = load_trajectory_artifact(settings.trajectory_artifact_directory)
    network = TrajectoryNetwork(artifact, settings.inference_threads, settings.execution_providers)
    manifest = artifact.manifest
    metrics.artifact(manifest.name, manifest.version, artifact.digest, network.providers[0])
    # One dispatch alone may take longer than users by themselves should wait: there is one patience only.
    admission = Admission(settings.queue_limit_s, settings.queue_limit_s)
    return Trajectories(
        artifact,
        network,
        TrajectoryCells(store, manifest, settings.waiting_limit),
        Dispatcher(TrajectoryEstimator(network), network, settings.inference_batch, admission, metrics),
    )
