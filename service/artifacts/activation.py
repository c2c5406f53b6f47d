"""How another artifact takes the place of the one that serves: proven aside first, then at once."""

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
from service.artifacts.catalogue import ArtifactFolders, reason_of
from service.cells.calibration import check_serves
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.cells.trajectory_cells import check_learned
from service.errors import ActivationInProgress, ArtifactRefused, NoTrajectoryArtifact, ServiceError
from service.inference.engine import start_engine, start_trajectory_engine
from service.inference.session import ModelUnusable
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.trajectory_metrics import TrajectoryMetrics

_log = logging.getLogger("fingerpost.models")


class Activation:
    """One at a time. It holds until the process ends: what serves then is what the settings name.

    For the event loop's thread.
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
        self.folder: str | None = None  # of the artifact that is being made ready
        self._folders = folders
        self._store = store
        self._served = served
        self._trajectories = trajectories
        self._settings = settings
        self._metrics = metrics
        self._trajectory_metrics = trajectory_metrics

    async def activate(self, folder: str, *, force: bool) -> None:
        """Has the artifact in a folder locate users; nothing to do where it does already.

        Raises `ArtifactNotFound`, `ActivationInProgress`, `NoTrajectoryArtifact`, `StoreDown`, or `ArtifactRefused`,
        some of which `force` waives; then the one before serves on.
        """
        if self.folder is not None:
            raise ActivationInProgress(f"{self.folder!r} is being made ready")
        self.folder = folder
        started = time.monotonic()
        try:
            directory = await asyncio.to_thread(self._folders.path, folder)
            try:
                artifact = await asyncio.to_thread(self._unlike_active, directory)
                if is_mateformer(artifact):
                    await self._activate(artifact, force)
                elif artifact is not None:
                    await self._activate_for_trajectories(artifact)
            except (ArtifactError, ModelUnusable) as error:
                raise ArtifactRefused(reason_of(error, directory)) from error
        except ServiceError as error:
            _log.warning("artifact %s does not become active: %s", folder, error)
            raise
        finally:
            self.folder = None
        if artifact is not None:
            _log.warning("artifact %s is active, until a restart; %.1f s", folder, time.monotonic() - started)

    def _unlike_active(self, directory: Path) -> MateformerArtifact | TrajectoryArtifact | None:
        """The artifact, whole; None where it is active."""
        active = {self._served.engine.artifact.digest}
        if self._trajectories is not None:
            active.add(self._trajectories.engine.artifact.digest)
        return None if read_manifest(directory)[1] in active else load_artifact(directory)

    async def _activate(self, artifact: MateformerArtifact, force: bool) -> None:
        await asyncio.to_thread(self._check_serves, artifact)
        # In a thread that does not give way: those of the engine are as important as the one that starts them.
        engine = await asyncio.to_thread(start_engine, artifact, self._settings, self._metrics)
        cells = await self._served.switch(engine, force=force)
        _log.info("%d cells in memory went over to artifact %s", cells, artifact.digest)

    async def _activate_for_trajectories(self, artifact: TrajectoryArtifact) -> None:
        trajectories = self._trajectories
        if trajectories is None:
            raise NoTrajectoryArtifact("the settings name no artifact for trajectories whose place it could take")
        await asyncio.to_thread(self._check_learned, artifact, trajectories)
        start = partial(start_trajectory_engine, artifact, self._settings, self._trajectory_metrics)
        engine = await asyncio.to_thread(start)
        trajectories.use(engine)

    def _check_serves(self, artifact: MateformerArtifact) -> None:
        before, confidence = self._served.engine.artifact, self._settings.confidence
        self._check_keeps(
            self._cells(),
            lambda version: check_serves(before, version, confidence),
            lambda version: check_serves(artifact, version, confidence),
        )

    def _check_learned(self, artifact: TrajectoryArtifact, trajectories: Trajectories) -> None:
        before, after = trajectories.engine.artifact.manifest, artifact.manifest
        if after.vertices != before.vertices:
            raise ArtifactRefused(f"it takes {after.vertices} snapshots, clients send {before.vertices}")
        self._check_keeps(before.cells, partial(check_learned, before), partial(check_learned, after))

    def _check_keeps(
        self, cell_ids: Sequence[str], before: Callable[[Manifest], None], after: Callable[[Manifest], None]
    ) -> None:
        """Raises `ArtifactRefused` where a cell that users can be located in would be one no more."""
        for cell_id in cell_ids:
            version = self._current(cell_id)
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

    def _cells(self) -> list[str]:
        with translate_store_errors():
            return self._store.cells()

    def _current(self, cell_id: str) -> Manifest | None:
        """None where there is none, or none that can be read: neither artifact serves it."""
        with translate_store_errors():
            try:
                return self._store.current(cell_id)
            except CorruptManifest:
                return None
