"""Restores a backup into a store of any kind."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from reference_db.backup import BackedUpCell, Backup, Report
from reference_db.errors import CellsExist, CorruptManifest, MissingSegment
from reference_db.manifest import Change, Manifest
from reference_db.segment import digest_of
from reference_db.stores.store import Store


class Restored(NamedTuple):
    """How many cells were restored whole, replaced by a new version, and were there already."""

    whole: int
    replaced: int
    present: int


class _Plan(NamedTuple):
    """What to do about a cell. `held`: how many of its versions the store has already. `replaces`: it has others, or
    fingerprints of its current one are damaged.
    """

    cell: BackedUpCell
    held: int
    replaces: bool


class _Newest(NamedTuple):
    """The newest version of a cell. `segments`: those that it lists. `damaged`: its number, if its manifest is."""

    number: int = 0
    digest: str | None = None
    fingerprints: int = 0
    segments: Collection[str] = ()
    damaged: tuple[int, ...] = ()


def restore_backup(
    backup: Backup, store: Store, author: str, now: datetime, *, force: bool, dry_run: bool, report: Report = print
) -> Restored:
    """Restores the cells of a backup with their versions, numbers and digests.

    A cell that the store has with the same versions is left as it is, one that an interrupted restore left is
    completed. Of a cell that the store has with other versions, with `force`, the backup's current version becomes the
    newest version, and its earlier ones are not restored. `force` also reads the fingerprints of the store's current
    versions, and treats cells that have lost some in the same way; cells that it restored before stay. Looks at all
    cells before it writes anything; each version appears as a whole. `dry_run` writes nothing. Calls `report` with the
    name of each cell.

    Raises `CellsExist` without `force`, `BadBackup`, `VersionConflict` or `StoreUnavailable`.
    """
    plans = [_plan(backup, store, cell, force) for cell in backup.index.cells]
    others = [plan.cell.cell_id for plan in plans if plan.replaces]
    if others and not force:
        raise CellsExist([f"cell {cell_id} has other versions in the reference database" for cell_id in others])
    if not dry_run:
        for plan in plans:
            report(plan.cell.cell_id)
            if plan.replaces:
                _replace(backup, store, plan.cell, author, now)
            else:
                _complete(backup, store, plan.cell, plan.held)
    present = [plan for plan in plans if not plan.replaces and plan.held == len(plan.cell.versions)]
    return Restored(len(plans) - len(others) - len(present), len(others), len(present))


def _plan(backup: Backup, store: Store, cell: BackedUpCell, force: bool) -> _Plan:
    try:
        current = store.current(cell.cell_id)
    except CorruptManifest:
        return _Plan(cell, 0, replaces=True)
    if current is None:
        return _Plan(cell, 0, replaces=False)
    stated = [(version.number, version.digest) for version in cell.versions]
    newest = (current.number, current.digest)
    if newest in stated:
        held = stated.index(newest) + 1
    elif force and _has_content_of(current, backup.manifest(cell.cell_id, cell.versions[-1])):
        held = len(stated)  # by an earlier restore
    else:
        return _Plan(cell, 0, replaces=True)
    listed = _list_segments(current)
    damaged = force and len(_find_sound(store, cell.cell_id, listed)) < len(listed)
    return _Plan(cell, held, replaces=damaged)


def _has_content_of(manifest: Manifest, other: Manifest) -> bool:
    """Whether the versions differ in their place in a history only."""
    placed = manifest.with_fields(
        number=other.number, parent=other.parent, created_at=other.created_at, change=other.change
    )
    return placed.digest == other.digest


def _complete(backup: Backup, store: Store, cell: BackedUpCell, held: int) -> None:
    """Publishes the versions that the store lacks, one after the other."""
    before = backup.manifest(cell.cell_id, cell.versions[held - 1]) if held else None
    stored = _list_segments(before)
    for version in cell.versions[held:]:
        manifest = backup.manifest(cell.cell_id, version)
        store.publish(manifest, _read_segments(backup, manifest, stored), None if before is None else before.digest)
        stored |= _list_segments(manifest)
        before = manifest


def _replace(backup: Backup, store: Store, cell: BackedUpCell, author: str, now: datetime) -> None:
    """Publishes the backup's current version as the newest version of a cell, which keeps its history.

    It takes the place of a damaged current version, so that the cell never disappears. Where the store cannot tell
    which version that is, or where others are damaged, too, the cell is removed, and restored whole.
    """
    try:
        before = _find_newest(store, cell.cell_id)
    except CorruptManifest:
        store.remove_cell(cell.cell_id, None)
        _complete(backup, store, cell, 0)
        return
    restored = backup.manifest(cell.cell_id, cell.versions[-1])
    change = Change(
        action="replaced",
        added=restored.fingerprints,
        removed=before.fingerprints,
        author=author,
        note=f"restored from the backup of {backup.index.made_at:%Y-%m-%d %H:%M}Z, version {restored.version}",
    )
    manifest = restored.with_fields(
        number=before.number + 1,
        parent=before.digest,
        created_at=now,
        change=change,
    )
    sound = _find_sound(store, cell.cell_id, _list_segments(manifest).intersection(before.segments))
    store.publish(manifest, _read_segments(backup, manifest, sound), before.digest, before.damaged)


def _find_newest(store: Store, cell_id: str) -> _Newest:
    """Raises `CorruptManifest` unless the newest version is sound, or the only damaged one."""
    try:
        manifest = store.current(cell_id)
    except CorruptManifest:
        digest, numbers = store.newest(cell_id), store.numbers(cell_id)
        damaged = [number for number in numbers if _is_damaged(store, cell_id, number)]
        if not damaged or damaged != numbers[-1:]:
            raise
        return _Newest(damaged[0], digest, damaged=tuple(damaged))
    if manifest is None:  # removed meanwhile
        return _Newest()
    return _Newest(manifest.number, manifest.digest, manifest.fingerprints, _list_segments(manifest))


def _is_damaged(store: Store, cell_id: str, number: int) -> bool:
    try:
        store.manifest(cell_id, number)
    except CorruptManifest:
        return True
    return False


def _find_sound(store: Store, cell_id: str, digests: Collection[str]) -> set[str]:
    """Those of the segments whose bytes the store has as they were written. Reads one at a time."""
    return {digest for digest in digests if _is_sound(store, cell_id, digest)}


def _is_sound(store: Store, cell_id: str, digest: str) -> bool:
    try:
        return digest_of(store.get_segment(cell_id, digest)) == digest
    except MissingSegment:
        return False


def _list_segments(manifest: Manifest | None) -> set[str]:
    return set() if manifest is None else {segment.digest for segment in manifest.segments}


def _read_segments(backup: Backup, manifest: Manifest, stored: Collection[str]) -> Iterator[bytes]:
    """The segments that the store lacks, read one at a time."""
    for digest in dict.fromkeys(segment.digest for segment in manifest.segments):
        if digest not in stored:
            yield backup.segment(manifest.cell.cell_id, digest)
