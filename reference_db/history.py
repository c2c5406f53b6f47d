"""The history of a cell: which of its old versions the store keeps."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from reference_db.errors import CorruptManifest, UnknownVersion
from reference_db.manifest import FORGOTTEN, Manifest
from reference_db.stores.store import Removal, Store


class HistoryPolicy(BaseModel):
    """Limits on the old versions of a cell. A limit of None keeps everything.

    `versions` counts the newest ones, the current version among them. `max_age_s` is in seconds since a version was
    replaced by the next. A version that exceeds one of the limits goes, but not before `grace_s` seconds after it was
    replaced: other processes may still be reading it. The current version stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    versions: int | None = Field(default=None, ge=1)
    max_age_s: float | None = Field(default=None, gt=0)
    grace_s: float = Field(default=3600.0, ge=0)


def find_expired(store: Store, cell_id: str, policy: HistoryPolicy, now: datetime) -> list[int]:
    """The numbers of the versions that the policy no longer keeps, ascending. Raises `StoreUnavailable`."""
    numbers = store.numbers(cell_id)
    beyond = set() if policy.versions is None else set(numbers[: -policy.versions])
    expired = []
    for place, number in enumerate(numbers[:-1]):
        if number not in beyond and policy.max_age_s is None:
            break
        replaced_at = _find_time(store, cell_id, numbers[place + 1 :])
        replaced_s = 0.0 if replaced_at is None else (now - replaced_at).total_seconds()
        old = policy.max_age_s is not None and replaced_s > policy.max_age_s
        if replaced_s < policy.grace_s or not (old or number in beyond):
            break  # later versions were replaced later
        expired.append(number)
    return expired


def _find_time(store: Store, cell_id: str, numbers: list[int]) -> datetime | None:
    """When the first of these versions was made that is not damaged; None if all are."""
    for number in numbers:
        try:
            return store.manifest(cell_id, number).created_at
        except (CorruptManifest, UnknownVersion):
            continue
    return None


def collect_history(
    store: Store, cell_id: str, policy: HistoryPolicy, now: datetime, *, dry_run: bool = False
) -> Removal:
    """Removes the versions of a cell that the policy no longer keeps. `dry_run` only tells what would be removed.

    Raises `CorruptManifest` if the current version is damaged, because an operator then needs the old ones, or if the
    store needs a damaged version to know what to remove. Raises `StoreUnavailable`.
    """
    store.current(cell_id)
    expired = find_expired(store, cell_id, policy, now)
    return store.remove_versions(cell_id, expired, dry_run=dry_run) if expired else Removal()


def is_withdrawn(store: Store, held: Manifest) -> bool:
    """Whether a version that a reader holds must be dropped, even if no newer version can be served.

    That is so if the cell was removed, or if a later version forgot fingerprints of this one. Raises
    `StoreUnavailable`.
    """
    cell_id = held.cell.cell_id
    if store.is_removed(cell_id):
        return True
    for number in reversed(store.numbers(cell_id)):
        try:
            manifest = store.manifest(cell_id, number)
        except (CorruptManifest, UnknownVersion):
            continue
        if manifest.digest == held.digest:
            return False
        published_anew = manifest.parent is None and manifest.created_at > held.created_at
        forgotten = manifest.quality.get(FORGOTTEN) if manifest.change.action == "forgotten" else None
        versions = forgotten.get("versions") if isinstance(forgotten, dict) else None
        if published_anew or (isinstance(versions, list) and held.number in versions):
            return True
    return False
