"""Where in a cell its own fingerprints are located well, and where badly."""

import asyncio
import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from fingerpost.wire_fingerprints import ErrorMap, FingerprintError
from reference_db.cell_version import CellVersion
from reference_db.contents import read_contents
from reference_db.errors import CorruptManifest, UnknownVersion
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.calibration import AT_ONCE, check_serves
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.errors import Congested, NotReady
from service.inference.engine import MateformerEngine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.updates.history import find_version
from service.updates.publisher import Publisher
from service.updates.selection import format_ids

SAMPLE, LARGEST_SAMPLE = 200, 1000  # fingerprints
MOST_WAITING = 8  # requests; the service refuses more
_REMEMBERED = 32  # samples


class _SampleKey(NamedTuple):
    """Everything that errors depend on: versions that differ in nothing else have the same errors."""

    artifact: str
    segments: tuple[str, ...]
    tombstones: tuple[int, ...]
    indexed: int


class _Remembered(NamedTuple):
    """A sample, and the last version that it was asked for."""

    sample: "_Sample"
    manifest: Manifest


class _Sample(NamedTuple):
    """The first fingerprints of a version in a random order: ids `[k]`, positions `[k, 2]`, errors `[k]` metres."""

    ids: NDArray[np.uint64]
    positions: NDArray[np.float32]
    errors: NDArray[np.float64]

    @classmethod
    def empty(cls) -> "_Sample":
        return cls(np.zeros(0, np.uint64), np.zeros((0, 2), np.float32), np.zeros(0))

    def list_first(self, limit: int) -> list[FingerprintError]:
        columns = (self.positions[:limit].tolist(), self.errors[:limit].tolist())
        return [
            FingerprintError(id=name, x=x, y=y, error=error if math.isfinite(error) else None)
            for name, (x, y), error in zip(format_ids(self.ids[:limit]), *columns, strict=True)
        ]


class ErrorMaps:
    """Locates fingerprints in a thread of low priority, one version after the other, and remembers the errors.

    Belongs to the event loop's thread.
    """

    def __init__(self, publisher: Publisher, served: ServedCells, settings: Settings) -> None:
        self._publisher = publisher
        self._served = served
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="error-maps", initializer=lower_thread_priority)
        self._waiting = 0
        self._samples: OrderedDict[_SampleKey, _Remembered] = OrderedDict()  # least recently used first
        self._stopped = threading.Event()

    async def measure(self, cell_id: str, version: str | None, limit: int) -> ErrorMap:
        """The errors of at most `limit` fingerprints of a version. None: the current version.

        Raises `CellNotFound`, `VersionNotFound`, `CellNotServed`, `BandNotServed`, `CellTooSmall`, `CellUnreadable`,
        `Congested`, `NotReady`, or what the store raises.
        """
        manifest = await self._publisher.read(find_version, self._publisher.store, cell_id, version)
        engine = self._served.engine
        check_serves(engine.artifact, manifest, self._settings.confidence)
        sample = await self._load_sample(engine, manifest, min(limit, manifest.fingerprints))
        return ErrorMap(
            version=manifest.version,
            artifact=engine.artifact.digest,
            count=manifest.fingerprints,
            errors=sample.list_first(limit),
        )

    async def drop_removed(self) -> None:
        """Forgets the samples of versions that the store no longer keeps: they hold positions. Raises `StoreDown`."""
        for key, (_, manifest) in list(self._samples.items()):
            if not await self._publisher.read(_is_kept, self._publisher.store, manifest):
                self._samples.pop(key, None)

    def close(self) -> None:
        self._stopped.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _load_sample(self, engine: MateformerEngine, manifest: Manifest, limit: int) -> _Sample:
        """At least `limit` errors of a version."""
        key = _sample_key(engine, manifest)
        if sample := self._find_sample(key, limit):
            self._samples[key] = _Remembered(sample, manifest)
            return sample
        if self._waiting >= MOST_WAITING:
            raise Congested(f"{self._waiting} other requests wait for errors")
        self._waiting += 1
        try:
            held = self._served.held(manifest.cell.cell_id)
            work = partial(self._measure_sample, engine, manifest, held, limit, key)
            sample = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1
        self._samples[key] = _Remembered(sample, manifest)
        self._samples.move_to_end(key)
        while len(self._samples) > _REMEMBERED:
            self._samples.popitem(last=False)
        return sample

    def _find_sample(self, key: _SampleKey, limit: int) -> _Sample | None:
        found = self._samples.get(key)
        if found is None or len(found.sample.errors) < limit:
            return None
        self._samples.move_to_end(key)
        return found.sample

    def _measure_sample(
        self, engine: MateformerEngine, manifest: Manifest, held: CellVersion | None, limit: int, key: _SampleKey
    ) -> _Sample:
        """Extends the remembered sample, which may have grown while this request waited."""
        found = self._samples.get(key)
        known = _Sample.empty() if found is None else found.sample
        if len(known.errors) >= limit:
            return known
        version = self._assemble(manifest, held)
        order = np.random.default_rng(self._settings.calibration_seed).permutation(len(version))
        rows = order[len(known.errors) : limit]
        portions = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
        errors = [self._measure_errors(engine, version, portion) for portion in portions]
        return _Sample(
            np.concatenate([known.ids, version.ids[rows]]),
            np.concatenate([known.positions, version.positions[rows]]),
            np.concatenate([known.errors, *errors]),
        )

    def _measure_errors(
        self, engine: MateformerEngine, version: CellVersion, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        if self._stopped.is_set():  # a stop waits for this thread
            raise NotReady("the service is stopping")
        return self._served.examiner.measure_errors(engine, version, rows)

    def _assemble(self, manifest: Manifest, held: CellVersion | None) -> CellVersion:
        if held is not None and held.manifest.digest == manifest.digest:
            return held
        with translate_store_errors():
            contents = read_contents(self._publisher.store, manifest, None if held is None else held.contents)
        return self._served.examiner.assemble(contents, held)


def get_error_maps(request: Request) -> ErrorMaps:
    error_maps: ErrorMaps = request.app.state.error_maps
    return error_maps


def _is_kept(store: Store, manifest: Manifest) -> bool:
    try:
        return store.manifest(manifest.cell.cell_id, manifest.number).digest == manifest.digest
    except (CorruptManifest, UnknownVersion):
        return False


def _sample_key(engine: MateformerEngine, manifest: Manifest) -> _SampleKey:
    digests = tuple(reference.digest for reference in manifest.segments)
    return _SampleKey(engine.artifact.digest, digests, tuple(manifest.tombstones), manifest.indexed)
