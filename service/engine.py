"""An artifact that locates by fingerprints, at work: all that goes when another one takes its place."""

from dataclasses import dataclass

from models.artifact import Artifact
from service.admission import Admission
from service.dispatcher import Dispatcher
from service.estimator import Estimator, User
from service.metrics import Metrics
from service.network import Network, NetworkUnusable
from service.settings import Settings
from service.working_artifact import WorkingArtifact


@dataclass(frozen=True, eq=False)
class Engine(WorkingArtifact[Artifact, Network, User]):
    estimator: Estimator


def start_engine(artifact: Artifact, settings: Settings, metrics: Metrics) -> Engine:
    """Loads a network and has it answer by every graph.

    Its threads have the priority of the one that calls this. Raises `NetworkUnusable`.
    """
    network = Network(artifact, settings.inference_threads, settings.execution_providers)
    try:
        estimator = Estimator(network, settings.inference_batch, settings.frame_cache_bytes, metrics)
        estimator.prove()
    except Exception as error:  # ONNX Runtime raises many kinds, none of them documented
        network.close()
        raise NetworkUnusable.of(artifact.directory, error) from error
    admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
    dispatcher = Dispatcher(estimator, network, settings.inference_batch, admission, metrics)
    return Engine(artifact, network, dispatcher, estimator)
