"""Weighted kNN in service: its estimator, and the thread and the queue before it. It needs no artifact."""

from functools import partial

from service.inference.admission import LANES, Admission
from service.inference.dispatcher import Dispatcher
from service.inference.knn_estimator import KnnEstimate, KnnEstimator
from service.inference.owner_thread import OwnerThread
from service.inference.steps import in_one_long_step
from service.inference.user import User
from service.settings import Settings
from service.telemetry.knn_metrics import KnnMetrics


class KnnEngine(OwnerThread):
    """A thread of its own: weighted kNN answers where the model's thread does not."""

    def __init__(self, settings: Settings, metrics: KnnMetrics) -> None:
        super().__init__("weighted-knn", "weighted kNN has been stopped")
        admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
        self.dispatcher: Dispatcher[User, KnnEstimate] = Dispatcher(
            in_one_long_step(KnnEstimator().locate), self, settings.inference_batch, admission, metrics.dispatches
        )
        for lane in LANES:
            metrics.dispatches.watch_queue(lane, partial(self.dispatcher.waiting, lane))
