"""An artifact for trajectories at work: all that goes when another one takes its place."""

from models.artifact import TrajectoryArtifact
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.loaded_model import LoadedModel
from service.inference.trajectory_estimator import Trajectory, TrajectoryEstimator
from service.inference.trajectory_session import TrajectorySession
from service.settings import Settings
from service.telemetry.trajectory_metrics import TrajectoryMetrics

TrajectoryEngine = LoadedModel[TrajectoryArtifact, TrajectorySession, Trajectory]


def start_trajectory_engine(
    artifact: TrajectoryArtifact, settings: Settings, metrics: TrajectoryMetrics
) -> TrajectoryEngine:
    """As `service.inference.engine.start_engine`. Raises `ModelUnusable`."""
    network = TrajectorySession(artifact, settings.inference_threads, settings.execution_providers)
    # One dispatch alone may take longer than users by themselves should wait: there is one patience only.
    admission = Admission(settings.queue_limit_s, settings.queue_limit_s)
    dispatcher = Dispatcher(TrajectoryEstimator(network), network, settings.inference_batch, admission, metrics)
    return TrajectoryEngine(artifact, network, dispatcher)
