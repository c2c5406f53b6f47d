"""The versions of a cell: found by name, listed, compared."""

import re

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter

from fingerpost.wire_cells import CellModel
from fingerpost.wire_versions import (
    FieldChange,
    FingerprintChange,
    RemovedVersions,
    VersionDiff,
    VersionFinding,
    VersionList,
    VersionSide,
    VersionSummary,
)
from reference_db.contents import read_contents
from reference_db.errors import ReferenceDatabaseError
from reference_db.manifest import Manifest
from reference_db.stores.asking import ask_cells
from reference_db.stores.store import Removal, Store
from service.cells.calibration import Calibration
from service.cells.store_errors import translate_store_errors
from service.errors import CellNotFound, CellUnreadable, VersionNotFound
from service.updates.cell_wire import describe_cell, describe_retention
from service.updates.plausibility import list_findings
from service.updates.selection import format_ids

_VERSION_NAME = re.compile(r"([0-9]{1,10})(-[0-9a-f]{1,64})?")
_MOST_IDS_SHOWN = 1000

_EXTENT = TypeAdapter(list[float])


def find_current_version(store: Store, cell_id: str) -> Manifest:
    """Raises `CellNotFound`, and what the store raises. Blocking."""
    manifest = store.current(cell_id)
    if manifest is None:
        raise CellNotFound("/cellId", "no such cell")
    return manifest


def find_version(store: Store, cell_id: str, name: str | None) -> Manifest:
    """The version with a name like `3-ab12cd34ef56`, or with a number like `3`. None: the current version.

    The name may end anywhere in the digest. Raises `CellNotFound`, `VersionNotFound`, and what the store raises.
    Blocking.
    """
    if name is None:
        return find_current_version(store, cell_id)
    found = _VERSION_NAME.fullmatch(name)
    if found is None:
        raise VersionNotFound("/version", "neither the name of a version nor its number")
    if store.newest(cell_id) is None:
        find_current_version(store, cell_id)  # raises CellNotFound
    manifest = store.manifest(cell_id, int(found[1]))
    if not manifest.digest.startswith((found[2] or "-")[1:]):
        raise VersionNotFound("/version", f"version {found[1]} has another digest")
    return manifest


def read_current_versions(store: Store) -> tuple[dict[str, Manifest | None], dict[str, ReferenceDatabaseError]]:
    """The current version of each cell, and the errors by cell. Blocking.

    A cell that is damaged or cannot be reached does not hide the others. Raises `StoreUnavailable` if no cell can be
    reached.
    """
    return ask_cells(store, store.current, store.cells())


def list_page_of_versions(store: Store, cell_id: str, limit: int, before: int | None) -> VersionList:
    """At most `limit` versions with numbers below `before`, newest first. Blocking.

    A damaged version does not hide the others: an operator looks here for a version to go back to.
    """
    numbers = [number for number in store.numbers(cell_id) if before is None or number < before]
    if not numbers:
        find_current_version(store, cell_id)  # raises CellNotFound
    page = numbers[: -limit - 1 : -1]
    versions, unreadable = [], []
    for number in page:
        try:
            with translate_store_errors():
                versions.append(_summarise(store.manifest(cell_id, number)))
        except CellUnreadable:
            unreadable.append(number)
        except VersionNotFound:  # removed meanwhile
            continue
    more = len(numbers) > len(page)
    return VersionList(versions=versions, unreadable=unreadable or None, next=page[-1] if more else None)


def compare_versions(store: Store, cell_id: str, name: str, other: str) -> VersionDiff:
    """The differences between version `name` and version `other`. Blocking."""
    before, after = find_version(store, cell_id, name), find_version(store, cell_id, other)
    contents = read_contents(store, before)
    ids_before, ids_after = contents.ids, read_contents(store, after, contents).ids
    return VersionDiff(
        before=_describe_side(before),
        after=_describe_side(after),
        added=_list_ids(ids_after[~np.isin(ids_after, ids_before)]),
        removed=_list_ids(ids_before[~np.isin(ids_before, ids_after)]),
        description=_compare_fields(describe_cell(before.cell), describe_cell(after.cell)),
        retention=_compare_fields(describe_retention(before.retention), describe_retention(after.retention)),
        model=_compare_fields(CellModel(policy=before.model), CellModel(policy=after.model)),
    )


def describe_removal(cell_id: str, removal: Removal) -> RemovedVersions:
    return RemovedVersions(
        cell_id=cell_id, versions=list(removal.versions), segments=removal.segments, bytes=removal.bytes
    )


def _summarise(manifest: Manifest) -> VersionSummary:
    change = manifest.change
    return VersionSummary(
        version=manifest.version,
        number=manifest.number,
        digest=manifest.digest,
        parent=manifest.parent,
        created_at=manifest.created_at,
        author=change.author,
        action=change.action,
        added=change.added,
        removed=change.removed,
        note=change.note,
        model=CellModel(policy=manifest.model),
        fingerprints=manifest.fingerprints,
        calibrated_on=next((one.version for one in Calibration.all_of_quality(manifest.quality)), None),
        findings=[VersionFinding(**finding._asdict()) for finding in list_findings(manifest)] or None,
    )


def _describe_side(manifest: Manifest) -> VersionSide:
    survey = manifest.quality.get("survey")
    extent = _EXTENT.validate_python(survey["extent"]) if isinstance(survey, dict) else None
    return VersionSide(version=manifest.version, fingerprints=manifest.fingerprints, extent=extent)


def _list_ids(ids: NDArray[np.uint64]) -> FingerprintChange:
    shown = format_ids(ids[:_MOST_IDS_SHOWN])
    return FingerprintChange(count=len(ids), ids=shown, complete=len(ids) <= _MOST_IDS_SHOWN)


def _compare_fields(before: BaseModel, after: BaseModel) -> list[FieldChange]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return [FieldChange(field=name, before=old[name], after=new[name]) for name in old if old[name] != new[name]]
