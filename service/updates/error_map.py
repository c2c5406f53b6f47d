"""``GET /cells/{cellId}/errors``: where in a cell its own fingerprints are located well, and where badly."""

import asyncio
import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from reference_db.cell_version import CellVersion
from reference_db.contents import read_contents
from reference_db.manifest import Manifest
from service.cells.calibration import AT_ONCE, check_serves, label_errors
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.errors import Congested, NotReady
from service.inference.engine import MateformerEngine
from service.inference.estimator import Estimator
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.updates.cells import cell_id_of
from service.updates.legacy_wire import WireStruct
from service.updates.publisher import Publisher
from service.updates.query import Query
from service.updates.selection import names_of
from service.updates.version_name import find_version

SAMPLE, LARGEST_SAMPLE = 200, 1000  # fingerprints
_REMEMBERED = 32  # samples
MOST_WAITING = 8  # who asks next is told to come again


class FingerprintError(WireStruct, frozen=True, kw_only=True):
    """`x`, `y`: metres east and north of the base station; `error`: metres between there and the estimate."""

    id: str
    x: float
    y: float
    error: Annotated[float | None, Meta(description="null where the network knows no answer.")]


class ErrorMap(WireStruct, frozen=True, kw_only=True):
    """A random sample, the same each time: a larger one begins with the smaller."""

    version: str
    artifact: Annotated[str, Meta(description="The digest of the artifact that located them.")]
    count: Annotated[int, Meta(description="How many fingerprints the version holds.")]
    errors: list[FingerprintError]


class _Held(NamedTuple):
    """What errors depend on: versions that differ in nothing else have the same."""

    artifact: str
    segments: tuple[str, ...]
    tombstones: tuple[int, ...]
    indexed: int


class _Sample(NamedTuple):
    """The first of a version's fingerprints in a random order: ids `[k]`, positions `[k, 2]`, errors `[k]` metres."""

    ids: NDArray[np.uint64]
    positions: NDArray[np.float32]
    errors: NDArray[np.float64]

    @classmethod
    def nothing(cls) -> "_Sample":
        return cls(np.zeros(0, np.uint64), np.zeros((0, 2), np.float32), np.zeros(0))

    def first(self, limit: int) -> list[FingerprintError]:
        columns = (self.positions[:limit].tolist(), self.errors[:limit].tolist())
        return [
            FingerprintError(id=name, x=x, y=y, error=error if math.isfinite(error) else None)
            for name, (x, y), error in zip(names_of(self.ids[:limit]), *columns, strict=True)
        ]


class ErrorMaps:
    """Measures aside, one version after the other; what is measured is remembered. For the event loop's thread."""

    def __init__(self, publisher: Publisher, served: ServedCells, settings: Settings) -> None:
        self._publisher = publisher
        self._served = served
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="error-maps", initializer=lower_thread_priority)
        self._waiting = 0
        self._samples: OrderedDict[_Held, _Sample] = OrderedDict()  # least recently asked for first
        self._stopped = threading.Event()

    async def endpoint(self, request: Request) -> Response:
        cell_id, query = cell_id_of(request), Query(request, "version", "limit")
        limit = query.number("limit", LARGEST_SAMPLE) or SAMPLE
        manifest = await self._publisher.read(find_version, self._publisher.store, cell_id, query.text("version"))
        engine = self._served.engine
        check_serves(engine.artifact, manifest, self._settings.confidence)
        sample = await self._sample(engine, manifest, min(limit, manifest.fingerprints))
        answer = ErrorMap(
            version=manifest.version,
            artifact=engine.artifact.digest,
            count=manifest.fingerprints,
            errors=sample.first(limit),
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def close(self) -> None:
        self._stopped.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _sample(self, engine: MateformerEngine, manifest: Manifest, limit: int) -> _Sample:
        """At least `limit` errors of a version."""
        key = _held(engine, manifest)
        if sample := self._remembered(key, limit):
            return sample
        if self._waiting >= MOST_WAITING:
            raise Congested(f"{self._waiting} others wait for errors already")
        self._waiting += 1
        try:
            held = self._served.held(manifest.cell.cell_id)
            work = partial(self._work, engine.estimator, manifest, held, limit, key)
            sample = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1
        self._samples[key] = sample
        self._samples.move_to_end(key)
        while len(self._samples) > _REMEMBERED:
            self._samples.popitem(last=False)
        return sample

    def _remembered(self, key: _Held, limit: int) -> _Sample | None:
        sample = self._samples.get(key)
        if sample is None or len(sample.errors) < limit:
            return None
        self._samples.move_to_end(key)
        return sample

    def _work(
        self, estimator: Estimator, manifest: Manifest, held: CellVersion | None, limit: int, key: _Held
    ) -> _Sample:
        """Goes on from the errors that are known: perhaps they came while this one waited."""
        known = self._samples.get(key, _Sample.nothing())
        if len(known.errors) >= limit:
            return known
        version = self._version(manifest, held)
        order = np.random.default_rng(self._settings.calibration_seed).permutation(len(version))
        rows = order[len(known.errors) : limit]
        portions = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
        errors = [self._measured(estimator, version, some) for some in portions]
        return _Sample(
            np.concatenate([known.ids, version.ids[rows]]),
            np.concatenate([known.positions, version.positions[rows]]),
            np.concatenate([known.errors, *errors]),
        )

    def _measured(self, estimator: Estimator, version: CellVersion, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._stopped.is_set():  # a stop waits for this thread
            raise NotReady("the service stops")
        return label_errors(estimator, version, version, rows, left_out=True)

    def _version(self, manifest: Manifest, held: CellVersion | None) -> CellVersion:
        if held is not None and held.manifest.digest == manifest.digest:
            return held
        with translate_store_errors():
            contents = read_contents(self._publisher.store, manifest, None if held is None else held.contents)
        return CellVersion.assemble(contents, held)


def _held(engine: MateformerEngine, manifest: Manifest) -> _Held:
    digests = tuple(reference.digest for reference in manifest.segments)
    return _Held(engine.artifact.digest, digests, tuple(manifest.tombstones), manifest.indexed)
