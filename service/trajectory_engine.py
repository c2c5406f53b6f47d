"""An artifact for trajectories at work: all that goes when another one takes its place."""

from models.artifact import TrajectoryArtifact
from service.admission import Admission
from service.dispatcher import Dispatcher
from service.settings import Settings
from service.trajectory_estimator import Trajectory, TrajectoryEstimator
from service.trajectory_metrics import TrajectoryMetrics
from service.trajectory_network import TrajectoryNetwork
from service.working_artifact import WorkingArtifact

TrajectoryEngine = WorkingArtifact[TrajectoryArtifact, TrajectoryNetwork, Trajectory]


def start_trajectory_engine(
    artifact: TrajectoryArtifact, settings: Settings, metrics: TrajectoryMetrics
) -> TrajectoryEngine:
    """As `service.engine.start_engine`. Raises `NetworkUnusable`."""
    network = TrajectoryNetwork(artifact, settings.inference_threads, settings.execution_providers)
    # One dispatch alone may take longer than users by themselves should wait: there is one patience only.
    admission = Admission(settings.queue_limit_s, settings.queue_limit_s)
    dispatcher = Dispatcher(TrajectoryEstimator(network), network, settings.inference_batch, admission, metrics)
    return TrajectoryEngine(artifact, network, dispatcher)
