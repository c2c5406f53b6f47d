"""A cell's versions: who made them, when and why, and what lies between two of them."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from reference_db.contents import read_contents
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.store_errors import translate_store_errors
from service.errors import CellUnreadable
from service.updates.cell_wire import CellModel, description_of, retention_of
from service.updates.cells import cell_id_of, current_of, detail_response
from service.updates.legacy_wire import WireStruct
from service.updates.publisher import Publisher
from service.updates.query import Query
from service.updates.selection import names_of
from service.updates.version_name import find_version

_PAGE, _LARGEST_PAGE = 50, 1000
_MOST_NUMBER = 10**9
_IDS_SHOWN = 1000


class VersionSummary(WireStruct, frozen=True, kw_only=True):
    version: str
    number: int
    digest: str
    parent: str | None
    created_at: datetime
    author: str
    action: str
    added: int
    removed: int
    note: str
    model: CellModel
    fingerprints: int


class VersionList(WireStruct, frozen=True, kw_only=True):
    """Newest first."""

    versions: list[VersionSummary]
    unreadable: (
        Annotated[list[int], Meta(description="Numbers of versions that are there, but damaged.")] | UnsetType
    ) = UNSET
    next: Annotated[int, Meta(description="`before` of the next page; absent on the last.")] | UnsetType = UNSET


class FieldChange(WireStruct, frozen=True, kw_only=True):
    """What a field was, and what it is."""

    field: str
    before: Any
    after: Any


class FingerprintChange(WireStruct, frozen=True, kw_only=True):
    """The first thousand ids; `complete` where these are all."""

    count: int
    ids: list[str]
    complete: bool


class VersionSide(WireStruct, frozen=True, kw_only=True):
    version: str
    fingerprints: int
    extent: Annotated[list[float] | None, Meta(description="West, south, east, north, metres; null: no fingerprints.")]


class VersionDiff(WireStruct, frozen=True, kw_only=True):
    """What it took to come from `before` to `after`."""

    before: VersionSide
    after: VersionSide
    added: FingerprintChange
    removed: FingerprintChange
    description: list[FieldChange]
    retention: list[FieldChange]
    model: list[FieldChange]


class Versions:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def list_versions(self, request: Request) -> Response:
        """``GET /cells/{cellId}/versions``"""
        cell_id, query = cell_id_of(request), Query(request, "limit", "before")
        limit, before = query.number("limit", _LARGEST_PAGE) or _PAGE, query.number("before", _MOST_NUMBER)
        return _json(await self._publisher.read(_page, self._publisher.store, cell_id, limit, before))

    async def show_version(self, request: Request) -> Response:
        """``GET /cells/{cellId}/versions/{version}``"""
        Query(request)
        cell_id, name = cell_id_of(request), request.path_params["version"]
        return detail_response(await self._publisher.read(find_version, self._publisher.store, cell_id, name))

    async def diff(self, request: Request) -> Response:
        """``GET /cells/{cellId}/versions/{version}/diff/{other}``"""
        Query(request)
        cell_id, names = cell_id_of(request), (request.path_params["version"], request.path_params["other"])
        return _json(await self._publisher.read(_diff, self._publisher.store, cell_id, *names))


def _page(store: Store, cell_id: str, limit: int, before: int | None) -> VersionList:
    """One damaged version hides no other: this list is where an operator looks for one to go back to."""
    numbers = [number for number in store.numbers(cell_id) if before is None or number < before]
    if not numbers:
        current_of(store, cell_id)  # says that there is no such cell
    page = numbers[: -limit - 1 : -1]
    versions, unreadable = [], []
    for number in page:
        try:
            with translate_store_errors():
                versions.append(_summary(store.manifest(cell_id, number)))
        except CellUnreadable:
            unreadable.append(number)
    more = len(numbers) > len(page)
    return VersionList(versions=versions, unreadable=unreadable or UNSET, next=page[-1] if more else UNSET)


def _summary(manifest: Manifest) -> VersionSummary:
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
    )


def _diff(store: Store, cell_id: str, name: str, other: str) -> VersionDiff:
    before, after = find_version(store, cell_id, name), find_version(store, cell_id, other)
    held = read_contents(store, before)
    ids_before, ids_after = held.ids, read_contents(store, after, held).ids
    return VersionDiff(
        before=_side(before),
        after=_side(after),
        added=_ids(ids_after[~np.isin(ids_after, ids_before)]),
        removed=_ids(ids_before[~np.isin(ids_before, ids_after)]),
        description=_changes(description_of(before.cell), description_of(after.cell)),
        retention=_changes(retention_of(before.retention), retention_of(after.retention)),
        model=_changes(CellModel(policy=before.model), CellModel(policy=after.model)),
    )


def _side(manifest: Manifest) -> VersionSide:
    survey = manifest.quality.get("survey")
    extent = msgspec.convert(survey["extent"], list[float]) if isinstance(survey, dict) else None
    return VersionSide(version=manifest.version, fingerprints=manifest.fingerprints, extent=extent)


def _ids(ids: NDArray[np.uint64]) -> FingerprintChange:
    return FingerprintChange(count=len(ids), ids=names_of(ids[:_IDS_SHOWN]), complete=len(ids) <= _IDS_SHOWN)


def _changes(before: msgspec.Struct, after: msgspec.Struct) -> list[FieldChange]:
    was, now = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return [FieldChange(field=name, before=was[name], after=now[name]) for name in was if was[name] != now[name]]


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
