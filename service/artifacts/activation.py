"""Replaces the artifact that serves by another one, which is loaded and tested first."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from models.artifact import (
    ArtifactError,
    MateformerArtifact,
    TrajectoryArtifact,
    is_mateformer,
    load_artifact,
    read_manifest,
)
from reference_db.errors import CorruptManifest
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.artifacts.catalogue import ArtifactFolders, describe_error
from service.cells.calibration import check_serves
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.cells.trajectory_cells import check_learned
from service.errors import ActivationInProgress, ArtifactRefused, NoTrajectoryArtifact, ServiceError, shorten_name
from service.inference.engine import start_engine, start_trajectory_engine
from service.inference.session import ModelUnusable
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.trajectory_metrics import TrajectoryMetrics

_log = logging.getLogger("fingerpost.models")


class Activation:
    """Activates one artifact at a time. After a restart, the artifact that the settings name serves.

    Belongs to the event loop's thread.
    """

    def __init__(
        self,
        folders: ArtifactFolders,
        store: Store,
        served: ServedCells,
        trajectories: Trajectories | None,
        settings: Settings,
        metrics: Metrics,
        trajectory_metrics: TrajectoryMetrics,
    ) -> None:
        self.folder: str | None = None  # of the artifact that is being activated
        self._folders = folders
        self._store = store
        self._served = served
        self._trajectories = trajectories
        self._settings = settings
        self._metrics = metrics
        self._trajectory_metrics = trajectory_metrics

    async def activate(self, folder: str, *, force: bool) -> None:
        """Makes the artifact in a folder the active one of its family, unless it is already.

        Raises `ArtifactNotFound`, `ActivationInProgress`, `NoTrajectoryArtifact`, `StoreDown` or `ArtifactRefused`.
        Then the artifact before continues to serve. `force` activates an artifact that locates users far worse.
        """
        if self.folder is not None:
            raise ActivationInProgress(f"{shorten_name(self.folder)!r} is being activated")
        self.folder = folder
        started = time.monotonic()
        try:
            directory = await asyncio.to_thread(self._folders.path, folder)
            try:
                artifact = await asyncio.to_thread(self._load_unless_active, directory)
                if is_mateformer(artifact):
                    await self._activate(artifact, force)
                elif artifact is not None:
                    await self._activate_for_trajectories(artifact)
            except (ArtifactError, ModelUnusable) as error:
                raise ArtifactRefused(describe_error(error, directory)) from error
        except ServiceError as error:
            _log.warning("artifact %s not activated: %s", shorten_name(folder), error)
            raise
        finally:
            self.folder = None
        if artifact is not None:
            _log.warning("artifact %s is active until a restart; it took %.1f s", folder, time.monotonic() - started)

    def _load_unless_active(self, directory: Path) -> MateformerArtifact | TrajectoryArtifact | None:
        """The artifact in a folder. None if it is active."""
        active = {self._served.engine.artifact.digest}
        if self._trajectories is not None:
            active.add(self._trajectories.engine.artifact.digest)
        return None if read_manifest(directory)[1] in active else load_artifact(directory)

    async def _activate(self, artifact: MateformerArtifact, force: bool) -> None:
        await asyncio.to_thread(self._check_serves, artifact)
        # In a thread of normal priority: the engine's threads inherit the priority of the thread that starts them.
        engine = await asyncio.to_thread(start_engine, artifact, self._settings, self._metrics)
        cells = await self._served.switch(engine, force=force)
        _log.info("%d cells in memory now use artifact %s", cells, artifact.digest)

    async def _activate_for_trajectories(self, artifact: TrajectoryArtifact) -> None:
        trajectories = self._trajectories
        if trajectories is None:
            raise NoTrajectoryArtifact("the settings name no artifact for trajectories that this one could replace")
        await asyncio.to_thread(self._check_learned, artifact, trajectories)
        start = partial(start_trajectory_engine, artifact, self._settings, self._trajectory_metrics)
        engine = await asyncio.to_thread(start)
        trajectories.use(engine)

    def _check_serves(self, artifact: MateformerArtifact) -> None:
        before, confidence = self._served.engine.artifact, self._settings.confidence
        self._check_no_cell_is_lost(
            self._list_cells(),
            lambda version: check_serves(before, version, confidence),
            lambda version: check_serves(artifact, version, confidence),
        )

    def _check_learned(self, artifact: TrajectoryArtifact, trajectories: Trajectories) -> None:
        before, after = trajectories.engine.artifact.manifest, artifact.manifest
        if after.vertices != before.vertices:
            raise ArtifactRefused(f"takes {after.vertices} snapshots, but clients send {before.vertices}")
        self._check_no_cell_is_lost(before.cells, partial(check_learned, before), partial(check_learned, after))

    def _check_no_cell_is_lost(
        self, cell_ids: Sequence[str], before: Callable[[Manifest], None], after: Callable[[Manifest], None]
    ) -> None:
        """Raises `ArtifactRefused` if a cell that passes `before` does not pass `after`."""
        for cell_id in cell_ids:
            version = self._find_current(cell_id)
            try:
                if version is None:
                    continue
                before(version)
            except ServiceError:
                continue
            try:
                after(version)
            except ServiceError as error:
                raise ArtifactRefused(f"cell {cell_id}: {error.reason}") from error

    def _list_cells(self) -> list[str]:
        with translate_store_errors():
            return self._store.cells()

    def _find_current(self, cell_id: str) -> Manifest | None:
        """None if the version does not exist or is damaged: neither artifact serves it."""
        with translate_store_errors():
            try:
                return self._store.current(cell_id)
            except CorruptManifest:
                return None
