"""Loads cells from the store and prepares them for an engine. Blocking; for any thread."""

import logging
import time

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents, read_contents
from reference_db.history import is_withdrawn
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.calibration import check_serves
from service.cells.examiner import Examiner
from service.cells.served_cell import ServedCell, prepare_cell
from service.cells.store_errors import translate_store_errors
from service.errors import CellNotFound, ServiceError, VersionNotFound
from service.inference.engine import MateformerEngine
from service.settings import Settings

_log = logging.getLogger("fingerpost.cells")


class Withdrawn(Exception):
    """The cell was removed, or fingerprints of the version held were forgotten."""


def load_cell(
    store: Store, manifest: Manifest, engine: MateformerEngine, examiner: Examiner, settings: Settings
) -> ServedCell:
    """The version of a manifest, or the current one if that version was removed meanwhile.

    Raises `CellNotFound`, `CellUnreadable`, `StoreDown`, and what `check_serves` and `prepare_cell` raise.
    """
    while True:
        try:
            with translate_store_errors():
                contents = _read_served(store, manifest, engine, settings, None)
                # Indexed here, at normal priority: a user waits for it.
                return prepare_cell(CellVersion.assemble(contents), engine, examiner, settings)
        except VersionNotFound:  # removed meanwhile, together with its cell or for a newer version
            manifest = read_current_manifest(store, manifest.cell.cell_id)


def load_successor(
    store: Store,
    manifest: Manifest,
    held: ServedCell,
    like: CellVersion | None,
    examiner: Examiner,
    settings: Settings,
) -> ServedCell:
    """The version of a manifest for the engine of `held`, with the tiles in use encoded.

    `held` is the version in service. `like` has the same fingerprints and its indices built. Raises what `load_cell`
    raises, and `VersionNotFound`.
    """
    engine = held.engine
    contents = _read_served(store, manifest, engine, settings, held.version)
    with translate_store_errors():
        version = examiner.assemble(contents, like or held.version)
    found = prepare_cell(version, engine, examiner, settings)
    started = time.monotonic()
    encoded = engine.estimator.ahead.warm_tiles(found.version, engine.estimator.ahead.tiles_in_use(held.version))
    cell_id = manifest.cell.cell_id
    _log.info("cell %s: %d tiles encoded in %.1f s", cell_id, encoded, time.monotonic() - started)
    return found


def check_withdrawn(store: Store, held: Manifest, error: ServiceError) -> None:
    """Raises `Withdrawn` if a version in service must not be served any more; `error` kept its successor away."""
    with translate_store_errors():
        if is_withdrawn(store, held):
            raise Withdrawn from error


def read_current_manifest(store: Store, cell_id: str) -> Manifest:
    """Raises `CellNotFound`, `CellUnreadable` or `StoreDown`."""
    with translate_store_errors():
        manifest = store.current(cell_id)
    if manifest is None:
        raise CellNotFound("/cellId", "no such cell")
    return manifest


def _read_served(
    store: Store, manifest: Manifest, engine: MateformerEngine, settings: Settings, held: CellVersion | None
) -> Contents:
    """Reads segments from the store unless `held` has them. Raises what `check_serves` raises."""
    check_serves(engine.artifact, manifest, settings.confidence)
    with translate_store_errors():
        return read_contents(store, manifest, None if held is None else held.contents)
