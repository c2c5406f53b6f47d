"""The routes of a cell's versions."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from fingerpost.wire import CellId
from fingerpost.wire_cells import CellDetail
from fingerpost.wire_versions import CollectedVersions, Rollback, VersionDiff, VersionList
from reference_db import update
from reference_db.contents import Contents, read_contents
from reference_db.errors import CorruptManifest, CorruptSegment, MissingSegment
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from reference_db.update import Update
from service.errors import CellNotFound, FieldIncorrect, UnknownField, UpdateRefused, VersionNotFound
from service.updates.change_request import (
    STORE_ERRORS,
    TAGGED,
    Change,
    ChangeOrigin,
    ExistingCellRoute,
    change_response,
    change_responses,
    check_cell_exists,
    require_cell,
    version_response,
)
from service.updates.collecting import Collector
from service.updates.history import compare_versions, describe_removal, find_version, list_page_of_versions
from service.updates.parameters import Flag, UpdatesPublisher, VersionInPath
from service.web.parameters import DIGITS_ONLY, CellName
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

_PAGE, _LARGEST_PAGE = 50, 1000
_GREATEST_NUMBER = 10**9

router = APIRouter(tags=["versions"], route_class=ApiRoute)
_changes = APIRouter(route_class=ExistingCellRoute)


@router.get(
    "/cells/{cellId}/versions",
    responses=problem_responses(CellNotFound, FieldIncorrect, UnknownField, *STORE_ERRORS),
    summary="List versions",
)
async def list_versions(
    cell_id: CellName,
    publisher: UpdatesPublisher,
    limit: Annotated[int, Query(ge=1, le=_LARGEST_PAGE, description="The most versions to list."), DIGITS_ONLY] = _PAGE,
    before: Annotated[
        Annotated[int, Field(ge=1, le=_GREATEST_NUMBER), DIGITS_ONLY] | None,
        Query(description="Only versions with lower numbers."),
    ] = None,
) -> VersionList:
    """Lists versions of a cell, newest first: who made each, when and why."""
    return await publisher.read(list_page_of_versions, publisher.store, cell_id, limit, before)


@router.get(
    "/cells/{cellId}/versions/{version}",
    response_model=CellDetail,
    responses={200: TAGGED, **problem_responses(CellNotFound, VersionNotFound, UnknownField, *STORE_ERRORS)},
    summary="Show a version",
)
async def show_version(cell_id: CellName, version: VersionInPath, publisher: UpdatesPublisher) -> Response:
    """One version of a cell."""
    return version_response(await publisher.read(find_version, publisher.store, cell_id, version))


@router.get(
    "/cells/{cellId}/versions/{version}/diff/{other}",
    responses=problem_responses(CellNotFound, VersionNotFound, UnknownField, *STORE_ERRORS),
    summary="Compare two versions",
)
async def diff_versions(
    cell_id: CellName,
    version: VersionInPath,
    other: Annotated[str, Path(description="Another version, or its number.", examples=["1"])],
    publisher: UpdatesPublisher,
) -> VersionDiff:
    """The changes from version `version` to version `other`."""
    return await publisher.read(compare_versions, publisher.store, cell_id, version, other)


def get_collector(request: Request) -> Collector:
    collector: Collector = request.app.state.collector
    return collector


@router.post(
    "/versions/collect",
    responses=problem_responses(CellNotFound, FieldIncorrect, UnknownField, *STORE_ERRORS),
    summary="Remove old versions",
)
async def collect_versions(
    publisher: UpdatesPublisher,
    collector: Annotated[Collector, Depends(get_collector)],
    cell: Annotated[CellId | None, Query(description="Only versions of this cell. Absent: of all cells.")] = None,
    dry_run: Annotated[
        Flag, Query(alias="dryRun", description="Remove nothing. The answer tells what would be removed.")
    ] = False,
) -> CollectedVersions:
    """Removes the versions that `FINGERPOST_HISTORY_VERSIONS` and `FINGERPOST_HISTORY_MAX_AGE_S` no longer keep.

    The service does the same by itself every `FINGERPOST_RETENTION_PERIOD_S`.
    """
    if cell is not None:
        await check_cell_exists(publisher, cell)
    cell_ids = await publisher.read(publisher.store.cells) if cell is None else [cell]
    removals, unreadable = await collector.collect(cell_ids, datetime.now(UTC), dry_run=dry_run)
    cells = [describe_removal(cell_id, removal) for cell_id, removal in removals.items()]
    return CollectedVersions(dry_run=dry_run, cells=cells, unreadable=unreadable or None)


@_changes.post(
    "/cells/{cellId}/rollback",
    response_model=CellDetail,
    responses=change_responses(VersionNotFound),
    summary="Roll back to an older version",
)
async def roll_back(change: Change, origin: ChangeOrigin, body: Rollback, publisher: UpdatesPublisher) -> Response:
    """Publishes an older version again, as a new version."""

    def restore(before: Manifest | None) -> Update:
        before = require_cell(before)
        target = find_version(publisher.store, change.cell_id, str(body.version))
        if target.number == before.number:
            raise UpdateRefused(f"the cell is already at version {before.version}")
        restored = read_contents(publisher.store, target)
        return update.roll_back(before, restored, origin, _read_damaged(publisher.store, before, restored))

    return change_response(await publisher.replace(change.cell_id, restore, change.conditions, origin))


def _read_damaged(store: Store, version: Manifest, held: Contents) -> Contents | None:
    """The contents of a version that may be damaged; None where it is. `held` has many of its segments."""
    try:
        return read_contents(store, version, held)
    except (CorruptManifest, CorruptSegment, MissingSegment):
        return None


router.include_router(_changes)
