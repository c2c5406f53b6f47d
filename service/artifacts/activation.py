"""Activates an artifact: loads and tests it, lets it take over on this replica, and makes it the installation's."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fingerpost.wire_provenance import ArtifactReference
from models.artifact import (
    ArtifactError,
    LwlmArtifact,
    MateformerArtifact,
    ServedArtifact,
    TrajectoryArtifact,
    is_lwlm,
    is_mateformer,
    load_artifact,
    read_manifest,
)
from reference_db.errors import CorruptManifest
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.artifacts.catalogue import ArtifactFolders, describe_error
from service.artifacts.cell_checks import (
    CellChecks,
    Measure,
    check_cells,
    measure_by_fingerprints,
    measure_by_snapshots,
    measure_by_trajectories,
)
from service.artifacts.installation import ActiveArtifact, Installation
from service.artifacts.kept_cells import check_tracks, find_learned, find_served, find_stations
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.errors import (
    ActivationInProgress,
    ArtifactNotFound,
    ArtifactRefused,
    NoMeasuringArtifact,
    NoTrajectoryArtifact,
    ServiceError,
    overridden_by_force,
    shorten_name,
)
from service.inference.engine import (
    LwlmEngine,
    MateformerEngine,
    TrajectoryEngine,
    start_engine,
    start_lwlm_engine,
    start_trajectory_engine,
)
from service.inference.session import ModelUnusable
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.measure_metrics import MeasureMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.trajectory_metrics import TrajectoryMetrics

_log = logging.getLogger("fingerpost.models")


class Activation:
    """Activates one artifact at a time. Belongs to the event loop's thread."""

    def __init__(
        self,
        folders: ArtifactFolders,
        installation: Installation,
        store: Store,
        served: ServedCells,
        trajectories: Trajectories | None,
        stations: Stations | None,
        settings: Settings,
        metrics: Metrics,
        trajectory_metrics: TrajectoryMetrics,
        measure_metrics: MeasureMetrics,
    ) -> None:
        self.folder: str | None = None  # of the artifact that is being activated
        self.turns = 0  # beginnings and ends of activations on this replica, since its start
        self._folders = folders
        self._installation = installation
        self._store = store
        self._served = served
        self._trajectories = trajectories
        self._stations = stations
        self._settings = settings
        self._metrics = metrics
        self._trajectory_metrics = trajectory_metrics
        self._measure_metrics = measure_metrics
        self._checking = ThreadPoolExecutor(1, thread_name_prefix="checks", initializer=lower_thread_priority)
        self._stopped = threading.Event()

    @property
    def references(self) -> dict[str, ArtifactReference]:
        """The artifacts that serve on this replica, by family."""
        engines: list[MateformerEngine | TrajectoryEngine | LwlmEngine] = [self._served.engine]
        if self._trajectories is not None:
            engines.append(self._trajectories.engine)
        if self._stations is not None:
            engines.append(self._stations.engine)
        return {engine.artifact.manifest.family: engine.reference for engine in engines}

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the artifacts that serve on this replica, by family."""
        return {family: one.digest for family, one in self.references.items()}

    async def activate(self, folder: str, *, force: bool) -> CellChecks | None:
        """Makes the artifact in a folder the active one of its family, on this replica and in the installation.

        Returns what the check of cells found; None where the artifact serves here already: then only its files were
        checked.
        Raises `ArtifactNotFound`, `ActivationInProgress`, `NoTrajectoryArtifact`, `NoMeasuringArtifact`, `StoreDown`
        or `ArtifactRefused`. Then the artifact before continues to serve. `force` activates an artifact that locates
        users far worse, or for which no cell could be checked.
        """
        started = time.monotonic()
        try:
            family, checks = await self._activate(folder, force)
        except ServiceError as error:
            _log.warning("artifact %s not activated: %s", shorten_name(folder), error)
            raise
        _log.warning("artifact %s is the active one of %s; it took %.1f s", folder, family, time.monotonic() - started)
        return checks

    async def _activate(self, folder: str, force: bool) -> tuple[str, CellChecks | None]:
        """The artifact's family, and what the check found."""
        engine = self._served.engine
        for_trajectories = None if self._trajectories is None else self._trajectories.engine
        for_stations = None if self._stations is None else self._stations.engine
        with self._alone(folder):
            directory = await asyncio.to_thread(self._folders.path, folder)
            with _refusing(directory):
                manifest, digest = await asyncio.to_thread(read_manifest, directory)
                before = await asyncio.to_thread(self._read_active, manifest.family)
                checks = None
                # Also where the artifact serves already: other replicas, and this one after a restart, read the files.
                artifact = await asyncio.to_thread(load_artifact, directory)
                if digest not in self.digests.values():
                    checks = await self._take_over(artifact, force)
            active = ActiveArtifact.after(before, manifest.family, folder, digest, time.time())
            try:
                await asyncio.to_thread(self._record, active, before)
            except ServiceError:
                # The activation has failed. This replica alone must not serve the artifact.
                await self._take_back(engine, for_trajectories, for_stations)
                raise
        return manifest.family, checks

    async def adopt(self, active: ActiveArtifact, turns: int) -> None:
        """Lets the installation's active artifact take over on this replica, without a check of its errors.

        `turns`: as they were before the installation was asked. If there are more by now, an activation has begun or
        ended meanwhile, and the answer may be the artifact before. Raises `ActivationInProgress` then, and while
        another is being activated, `ArtifactNotFound` where this replica lacks it, or `ArtifactRefused`.
        """
        # Before it is alone: while a replica looks for what it lacks, an operator may activate another artifact.
        directory = await asyncio.to_thread(self._folders.find, active)
        if directory is None:
            raise ArtifactNotFound("this replica does not have it")
        if self.turns != turns:
            raise ActivationInProgress("another artifact has been activated since the installation was asked")
        with self._alone(active.folder), _refusing(directory):
            artifact = await asyncio.to_thread(load_artifact, directory)
            if is_mateformer(artifact):
                await self._served.switch(await self._start(artifact))
            elif is_lwlm(artifact):
                if self._stations is not None:
                    self._stations.use(await self._start_for_stations(artifact))
            elif self._trajectories is not None:
                self._trajectories.use(await self._start_for_trajectories(artifact))
        _log.warning("artifact %s, the installation's active one, has taken over here", active.folder)

    def close(self) -> None:
        self._stopped.set()
        self._checking.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def _alone(self, folder: str) -> Iterator[None]:
        if self.folder is not None:
            raise ActivationInProgress(f"{shorten_name(self.folder)!r} is being activated")
        self.folder = folder
        self.turns += 1
        try:
            yield
        finally:
            self.folder = None
            self.turns += 1

    async def _take_over(self, artifact: ServedArtifact, force: bool) -> CellChecks:
        if is_mateformer(artifact):
            if not force:
                check_tracks(self._served.engine.artifact.manifest, artifact.manifest)
            active, confidence = self._served.engine, self._settings.confidence
            serveable = await asyncio.to_thread(find_served, self._store, active.artifact, artifact, confidence)
            engine = await self._start(artifact)
            measure = measure_by_fingerprints(active, engine, self._served.examiner, self._settings.calibration_seed)
            checks = await self._check_cells(serveable, measure, force)
            cells = await self._served.switch(engine)
            _log.info("%d cells in memory now use artifact %s", cells, artifact.digest)
            return checks
        if is_lwlm(artifact):
            return await self._take_over_stations(artifact, force)
        trajectories = self._trajectories
        if trajectories is None:
            raise NoTrajectoryArtifact("the settings name no artifact for trajectories that this one could replace")
        before, after = trajectories.engine.artifact.manifest, artifact.manifest
        serveable = await asyncio.to_thread(find_learned, self._store, before, after)
        other = await self._start_for_trajectories(artifact)
        by_trajectories = measure_by_trajectories(trajectories.engine, other, self._settings.calibration_seed)
        checks = await self._check_cells(serveable, by_trajectories, force)
        trajectories.use(other)
        return checks

    async def _take_over_stations(self, artifact: LwlmArtifact, force: bool) -> CellChecks:
        stations = self._stations
        if stations is None:
            raise NoMeasuringArtifact("the settings name no artifact that measures snapshots and could be replaced")
        before = stations.engine
        manifests = before.artifact.manifest, artifact.manifest
        serveable = await asyncio.to_thread(find_stations, self._store, *manifests)
        other = await self._start_for_stations(artifact)
        measure = measure_by_snapshots(before, other, self._settings.calibration_seed)
        checks = await self._check_cells(serveable, measure, force)
        stations.use(other)
        return checks

    async def _take_back(
        self,
        engine: MateformerEngine,
        for_trajectories: TrajectoryEngine | None,
        for_stations: LwlmEngine | None,
    ) -> None:
        """Lets the engines before serve again."""
        if self._served.engine is not engine:
            await self._served.switch(engine)
        if self._trajectories is not None and for_trajectories is not None:
            self._trajectories.use(for_trajectories)
        if self._stations is not None and for_stations is not None:
            self._stations.use(for_stations)

    async def _start(self, artifact: MateformerArtifact) -> MateformerEngine:
        # In a thread of normal priority: the engine's threads inherit the priority of the thread that starts them.
        return await asyncio.to_thread(start_engine, artifact, self._settings, self._metrics)

    async def _start_for_trajectories(self, artifact: TrajectoryArtifact) -> TrajectoryEngine:
        return await asyncio.to_thread(start_trajectory_engine, artifact, self._settings, self._trajectory_metrics)

    async def _start_for_stations(self, artifact: LwlmArtifact) -> LwlmEngine:
        return await asyncio.to_thread(start_lwlm_engine, artifact, self._settings, self._measure_metrics)

    async def _check_cells(self, serveable: Mapping[str, Manifest], measure: Measure, force: bool) -> CellChecks:
        check = partial(
            check_cells,
            self._store,
            serveable,
            self._served.all_held(),
            measure,
            self._settings.calibration_seed,
            self._stopped.is_set,
        )
        checks = await asyncio.get_running_loop().run_in_executor(self._checking, check)
        _log.info("%d of %d cells checked, %d failed", checks.checked, checks.cells, len(checks.failed))
        if checks.complaint and not force:
            with overridden_by_force("activates it anyway"):
                raise ArtifactRefused(checks.complaint)
        return checks

    def _read_active(self, family: str) -> ActiveArtifact | None:
        with translate_store_errors():
            try:
                return self._installation.active().get(family)
            except CorruptManifest:
                return None  # `Installation.activate` replaces a record that cannot be read

    def _record(self, active: ActiveArtifact, before: ActiveArtifact | None) -> None:
        with translate_store_errors():
            if not self._installation.activate(active, before):
                raise ActivationInProgress("another replica has activated an artifact in the meantime")


@contextmanager
def _refusing(directory: Path) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, ModelUnusable) as error:
        raise ArtifactRefused(describe_error(error, directory)) from error
