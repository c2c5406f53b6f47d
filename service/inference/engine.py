"""An artifact that locates by fingerprints, at work: all that goes when another one takes its place."""

from dataclasses import dataclass

from models.artifact import Artifact
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.estimator import Estimator, User
from service.inference.loaded_model import LoadedModel
from service.inference.session import MateformerSession, ModelUnusable
from service.settings import Settings
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, eq=False)
class Engine(LoadedModel[Artifact, MateformerSession, User]):
    estimator: Estimator


def start_engine(artifact: Artifact, settings: Settings, metrics: Metrics) -> Engine:
    """Loads a network and has it answer by every graph.

    Its threads have the priority of the one that calls this. Raises `ModelUnusable`.
    """
    network = MateformerSession(artifact, settings.inference_threads, settings.execution_providers)
    try:
        estimator = Estimator(network, settings.inference_batch, settings.frame_cache_bytes, metrics)
        estimator.prove()
    except Exception as error:  # ONNX Runtime raises many kinds, none of them documented
        network.close()
        raise ModelUnusable.of(artifact.directory, error) from error
    admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
    dispatcher = Dispatcher(estimator, network, settings.inference_batch, admission, metrics)
    return Engine(artifact, network, dispatcher, estimator)
