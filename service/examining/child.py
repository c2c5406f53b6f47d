"""The examiner: ``python -m service.examining.child DESCRIPTOR PARENT``, which `process` starts.

It ends with the service, however the service ends: the kernel kills it on Linux, and everywhere its channel closes.
"""

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from logging.config import dictConfig
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.artifact import MateformerArtifact
from reference_db.segment import Segment
from reference_db.stores.opening import open_store
from service.cells.calibration import calibrate, label_errors
from service.cells.canary import run_canary
from service.cells.store_errors import translate_store_errors
from service.errors import InferenceFailed, ServiceError
from service.examining.channel import ArrayFile, Channel
from service.examining.messages import (
    Answer,
    Calibrate,
    Failure,
    IndexVersion,
    Lack,
    MeasureErrors,
    Request,
    RunCanary,
    Work,
)
from service.examining.versions import ExaminedVersions, SegmentsMissing
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.session import ModelUnusable
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.logs import log_config
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.examiner")

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_FIRST_VICTIM = "500"  # when memory runs out, the kernel takes the examiner, not the service
_OWN_BYTES = 2**30  # address space for the interpreter, ONNX Runtime, threads and the model
_AT_ONCE = 4  # requests
_ENGINES = 2  # an activation compares two


class ArtifactLacking(Exception):
    """The request names an artifact that was never sent."""


class Examination:
    """Does the work of requests. For any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        place = settings.redis_url or settings.database_directory
        self._versions = ExaminedVersions(lambda: open_store(place), settings.cell_memory_bytes // 8)
        self._estimators: OrderedDict[str, tuple[MateformerArtifact, Estimator]] = OrderedDict()
        self._loading = Lock()

    def do(self, request: Request, arrays: ArrayFile | None) -> tuple[Answer | Failure | Lack, ArrayFile | None]:
        """The reply to a request, and arrays that belong to it."""
        number = request.number
        try:
            with translate_store_errors():
                handed = {} if arrays is None else _to_segments(arrays.map())
                result, made = self._examine(request, handed)
            return Answer(number, result), made
        except SegmentsMissing as missing:
            return Lack(number, missing.digests, artifact=False), None
        except ArtifactLacking:
            return Lack(number, (), artifact=True), None
        except ServiceError as error:
            return Failure(number, error), None
        except Exception as error:  # the service answers 500, as it would for an error of its own
            _log.exception("a version cannot be examined")
            return Failure(number, RuntimeError(f"the examiner failed: {type(error).__name__}")), None

    def _examine(self, request: Request, handed: Mapping[str, Segment]) -> tuple[Any, ArrayFile | None]:
        work: Work = request.work
        if isinstance(work, IndexVersion):
            return None, ArrayFile.of(self._versions.find(work.manifest, handed).base.arrays())
        artifact, estimator = self._load(request)
        version = self._versions.find(work.manifest, handed)
        match work:
            case RunCanary(_, before):
                old = None if before is None else self._versions.find(before, handed)
                return run_canary(estimator, version, old, self._settings.calibration_seed), None
            case Calibrate():
                return calibrate(artifact, estimator, version, self._settings), None
            case MeasureErrors(_, rows):
                return label_errors(estimator, version, version, rows, left_out=True), None

    def _load(self, request: Request) -> tuple[MateformerArtifact, Estimator]:
        assert request.digest is not None
        with self._loading:
            found = self._estimators.get(request.digest)
            if found is None:
                if request.artifact is None:
                    raise ArtifactLacking
                found = request.artifact, self._start(request.artifact)
            self._estimators[request.digest] = found
            self._estimators.move_to_end(request.digest)
            if len(self._estimators) > _ENGINES:
                self._estimators.popitem(last=False)
            return found

    def _start(self, artifact: MateformerArtifact) -> Estimator:
        try:
            session = MateformerSession(artifact, 1, self._settings.execution_providers)
        except ModelUnusable as error:
            raise InferenceFailed(str(error)) from error
        return Estimator(session, 1, 0, Metrics())  # frames are for users


def main(descriptor: int, parent: int) -> None:
    _end_with(parent)
    lower_thread_priority()
    threadpool_limits(limits=1)
    channel = Channel(socket.socket(fileno=descriptor))
    settings, _ = channel.receive()
    dictConfig(log_config(settings))
    _bound_memory(settings)
    examination = Examination(settings)

    def answer(request: Request, arrays: ArrayFile | None) -> None:
        try:
            channel.send(*examination.do(request, arrays))
        except OSError:
            os._exit(0)  # the service has ended

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        while True:
            try:
                threads.submit(answer, *channel.receive())
            except (EOFError, OSError):
                os._exit(0)  # the service needs no examiner any more, and waits for no result


def _end_with(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        with suppress(OSError):  # /proc may be read-only
            Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _bound_memory(settings: Settings) -> None:
    """Bounds private memory, without mapped files. Drivers of GPUs reserve addresses freely, so not with a GPU."""
    if sys.platform == "linux" and settings.execution_providers == ["CPUExecutionProvider"]:
        most = _OWN_BYTES + settings.cell_memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _to_segments(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Segment]:
    """Segments by digest, of arrays named `<digest> <array>`."""
    named: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        digest, _, field = name.partition(" ")
        named.setdefault(digest, {})[field] = array
    return {digest: Segment(**fields) for digest, fields in named.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
