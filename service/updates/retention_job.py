"""Removes fingerprints that are older than the retention of their cell allows."""

import logging
from datetime import UTC, datetime

from reference_db.contents import Contents
from reference_db.errors import BadUpdate
from reference_db.manifest import Manifest
from reference_db.stores.asking import ask_cells
from reference_db.stores.store import Store
from reference_db.update import Origin, Update, apply_retention
from service.background import JobFailed
from service.errors import CellNotFound, ServiceError
from service.updates.publisher import Conditions, Publisher

_log = logging.getLogger("fingerpost.updates")

_AUTHOR = "retention"


async def run_retention_job(publisher: Publisher) -> None:
    """Publishes each cell without the fingerprints that its retention no longer keeps.

    A version that the artifact cannot serve, or that the canary refuses, is not published but logged. Each replica runs
    this job. If several try at once, one publishes. A cell that fails does not stop the others. Raises `JobFailed` when
    a cell failed for an unforeseen reason, and `StoreDown`.
    """
    failed = []
    for cell_id in await publisher.read(_find_due, publisher.store, datetime.now(UTC)):
        try:
            await _apply_retention(publisher, cell_id, datetime.now(UTC))
        except ServiceError as error:
            _log.warning("cell %s keeps fingerprints that are too old: %s", cell_id, error)
        except Exception:
            _log.exception("cell %s keeps fingerprints that are too old", cell_id)
            failed.append(cell_id)
    if failed:
        raise JobFailed(f"{len(failed)} cells keep fingerprints that are too old, among them {failed[0]}")


def _find_due(store: Store, now: datetime) -> list[str]:
    """The cells with fingerprints that are too old. Blocking."""

    def ask(cell_id: str) -> bool:
        manifest = store.current(cell_id)
        return manifest is not None and is_due(manifest, now)

    due, faults = ask_cells(store, ask, store.cells())
    for cell_id, error in faults.items():
        _log.warning("cell %s: its retention cannot be checked: %s", cell_id, error)
    return [cell_id for cell_id, is_one in due.items() if is_one]


async def _apply_retention(publisher: Publisher, cell_id: str, now: datetime) -> None:
    origin = Origin(_AUTHOR, now)

    def change(before: Contents | None) -> Update:
        if before is None:
            raise CellNotFound("/cellId", "no such cell")
        update = apply_retention(before, origin)
        if update is None:
            raise BadUpdate("another replica has removed them")
        return update

    await publisher.publish(cell_id, change, Conditions(), origin)


def is_due(manifest: Manifest, now: datetime) -> bool:
    """Whether the cell's oldest fingerprint is older than its retention allows."""
    survey, max_age = manifest.quality.get("survey"), manifest.retention.max_age_s
    oldest = survey.get("oldest") if isinstance(survey, dict) else None
    return max_age is not None and isinstance(oldest, float) and oldest < now.timestamp() - max_age
