"""An `Examiner` that works in a process of its own."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import MateformerArtifact
from reference_db.cell_version import CellVersion
from reference_db.contents import Contents
from reference_db.index.signal_features import Snapshots
from reference_db.references import References
from service.cells.calibration import Calibration
from service.cells.canary import Canary
from service.errors import ExaminerEnded, NotReady
from service.examining.channel import ArrayFile
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
from service.examining.process import ExaminerProcess, Received
from service.inference.engine import MateformerEngine
from service.settings import Settings
from service.telemetry.examiner_metrics import ExaminerMetrics

_FEW = 512  # fingerprints that are indexed here: replicas that only follow small cells need no process then
_ROUNDS = 4  # of a request: the examiner may lack the artifact, then segments, and may have been started again since


class _Reply(NamedTuple):
    result: Any
    arrays: ArrayFile | None


class ProcessExaminer:
    """Has a process of low priority and bounded memory examine versions, so that users do not wait for the
    interpreter's lock. For any thread.

    The process starts when it is first needed. If it ends, what it worked on fails with `ExaminerEnded`, and the next
    work starts another one.
    """

    def __init__(self, settings: Settings, metrics: ExaminerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._numbers = count()
        self._starting = Lock()
        self._process: ExaminerProcess | None = None
        self._closed = False

    def assemble(self, contents: Contents, before: CellVersion | None) -> CellVersion:
        """Only a large cell that is indexed anew needs the process: all else takes hundredths of a second."""

        def index(positions: NDArray[np.float32], csi: Snapshots) -> References:
            if len(positions) <= _FEW:
                return References.of(positions, csi)
            reply = self._ask(IndexVersion(contents.manifest), None, contents)
            assert reply.arrays is not None
            return References.of_arrays(positions, reply.arrays.map())

        return CellVersion.assemble(contents, before, index)

    def run_canary(self, engine: MateformerEngine, version: CellVersion, before: CellVersion | None) -> Canary:
        work = RunCanary(version.manifest, None if before is None else before.manifest)
        others = () if before is None else (before.contents,)
        canary: Canary = self._measure(work, engine, version.contents, *others)
        return canary

    def calibrate(self, engine: MateformerEngine, version: CellVersion) -> Calibration:
        calibration: Calibration = self._measure(Calibrate(version.manifest), engine, version.contents)
        return calibration

    def measure_errors(
        self, engine: MateformerEngine, version: CellVersion, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        errors: NDArray[np.float64] = self._measure(MeasureErrors(version.manifest, rows), engine, version.contents)
        return errors

    def close(self) -> None:
        """Kills the process. Work in progress, and all later work, fails with `NotReady`."""
        with self._starting:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.kill(NotReady("the service is stopping"))

    def _measure(self, work: Work, engine: MateformerEngine, *contents: Contents) -> Any:
        return self._ask(work, engine.artifact, *contents).result

    def _ask(self, work: Work, artifact: MateformerArtifact | None, *contents: Contents) -> _Reply:
        """Sends work, and then what the process lacks for it. Raises what the work raises, and `ExaminerEnded`."""
        digest = None if artifact is None else artifact.digest
        sent, segments = None, None
        with ExitStack() as files:
            for _ in range(_ROUNDS):
                message, arrays = self._send(Request(next(self._numbers), work, digest, sent), segments)
                match message:
                    case Answer(_, result):
                        return _Reply(result, arrays)
                    case Failure(_, error):
                        raise error
                    case Lack(_, _, artifact=True):
                        sent = artifact
                    case Lack(_, digests):
                        segments = ArrayFile.of(dict(_arrays_of(frozenset(digests), contents)))
                        files.callback(segments.close)
        raise ExaminerEnded("the process that examines versions of cells keeps ending")

    def _send(self, request: Request, segments: ArrayFile | None) -> Received:
        for _ in range(_ROUNDS):
            future = self._run_process().submit(request, segments)
            if future is not None:
                return future.result()
        raise ExaminerEnded("the process that examines versions of cells keeps ending")

    def _run_process(self) -> ExaminerProcess:
        with self._starting:
            if self._closed:
                raise NotReady("the service is stopping")
            if self._process is None or self._process.is_closing:
                self._metrics.starts.inc()
                self._process = ExaminerProcess(self._settings, self._metrics.failures.inc)
            return self._process


def _arrays_of(digests: Collection[str], contents: Iterable[Contents]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of segments, under names as `child` takes them."""
    for one in contents:
        for reference, segment in zip(one.manifest.segments, one.segments, strict=True):
            if reference.digest in digests:
                for field in fields(segment):
                    yield f"{reference.digest} {field.name}", getattr(segment, field.name)
