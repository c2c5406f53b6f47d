"""Weighted kNN in service: its estimator, and the thread and the queue before it. It needs no artifact."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from service.errors import InferenceFailed
from service.inference.admission import LANES, Admission
from service.inference.dispatcher import Dispatcher
from service.inference.estimator import User
from service.inference.knn_estimator import KnnEstimate, KnnEstimator
from service.settings import Settings
from service.telemetry.knn_metrics import KnnMetrics


class KnnEngine:
    """A thread of its own: weighted kNN answers where the model's thread does not."""

    def __init__(self, settings: Settings, metrics: KnnMetrics) -> None:
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="weighted-knn")
        admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
        self.dispatcher: Dispatcher[User, KnnEstimate] = Dispatcher(
            KnnEstimator(), self, settings.inference_batch, admission, metrics.dispatches
        )
        for lane in LANES:
            metrics.dispatches.watch_queue(lane, partial(self.dispatcher.waiting, lane))

    def submit(self, function: Callable[[], None]) -> Future[None]:
        """Calls `function` in the owner thread. Raises `InferenceFailed` after `close`."""
        try:
            return self._owner.submit(function)
        except RuntimeError as error:
            raise InferenceFailed("weighted kNN has been stopped") from error

    def close(self) -> None:
        """Cancels calls that have not started, and waits for the one that runs."""
        self._owner.shutdown(wait=True, cancel_futures=True)
