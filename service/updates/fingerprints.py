"""The routes of a cell's fingerprints."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from fingerpost.wire_cells import CellDetail
from fingerpost.wire_fingerprints import (
    ErrorMap,
    FingerprintList,
    FingerprintsBody,
    ForgettingPreview,
    Forgotten,
    ListedFingerprint,
    Preview,
    Selection,
)
from fingerpost.wire_survey import SurveyReport
from reference_db import update
from reference_db.cell import Cell
from reference_db.contents import Contents, read_contents
from reference_db.exporting import FileFormat
from reference_db.fingerprints import Fingerprints
from reference_db.stores.store import Store
from reference_db.update import Origin, Update
from service import errors
from service.errors import CellNotFound, FieldIncorrect, UnknownField, UpdateRefused
from service.updates.change_request import (
    STORE_ERRORS,
    TAGGED,
    Change,
    ChangeOrigin,
    ChangeRequest,
    ExistingCellRoute,
    change_response,
    change_responses,
    check_cell_exists,
    find_expected_version,
    require_cell,
)
from service.updates.error_map import LARGEST_SAMPLE, SAMPLE, ErrorMaps, get_error_maps
from service.updates.exports import Download, write_export
from service.updates.fingerprint_input import (
    FILE,
    FILE_BODY,
    FILE_ERRORS,
    FILE_SCHEMA,
    read_fingerprints,
    read_media_type,
)
from service.updates.forgetting import find_holders, forgetting_response, preview_forgetting
from service.updates.history import find_version
from service.updates.parameters import Flag, ImportDryRun, Text, UpdatesPublisher, VersionInQuery
from service.updates.plausibility import judge_addition, with_findings
from service.updates.selection import format_ids, parse_id, select_fingerprints
from service.updates.survey_report import report_addition
from service.updates.uploads import UploadRoute, receive_upload, takes_upload
from service.web.media import JSON
from service.web.parameters import DIGITS_ONLY, CellName
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()  # old versions may hold later times
_PAGE, _LARGEST_PAGE = 1000, 100_000
_READING_ERRORS = (CellNotFound, errors.VersionNotFound, FieldIncorrect, UnknownField, *STORE_ERRORS)

router = APIRouter(tags=["fingerprints"], route_class=ApiRoute)
_uploads = APIRouter(route_class=UploadRoute)
_changes = APIRouter(route_class=ExistingCellRoute)


@router.get(
    "/cells/{cellId}/fingerprints",
    response_model=FingerprintList,
    responses=problem_responses(*_READING_ERRORS),
    summary="List fingerprints",
)
async def list_fingerprints(
    cell_id: CellName,
    publisher: UpdatesPublisher,
    version: VersionInQuery = None,
    limit: Annotated[
        int, Query(ge=1, le=_LARGEST_PAGE, description="The most fingerprints to list."), DIGITS_ONLY
    ] = _PAGE,
    after: Annotated[Text | None, Query(description="Only fingerprints after the one with this id.")] = None,
) -> Response:
    """A page of a version's fingerprints, without their CSI."""
    page = await publisher.read(_encode_page, publisher.store, cell_id, version, limit, after)
    return Response(page, media_type=JSON.media_type)


@_uploads.post(
    "/cells/{cellId}/fingerprints",
    response_model=CellDetail | SurveyReport,
    responses=change_responses(*FILE_ERRORS),
    summary="Add fingerprints",
    openapi_extra=FILE_BODY,
)
@takes_upload(FingerprintsBody)
async def append_fingerprints(
    request: Request, change: Change, publisher: UpdatesPublisher, dry_run: ImportDryRun = False
) -> Response:
    """Adds fingerprints to those of the cell."""
    media_type, settings = read_media_type(request), request.app.state.settings
    limit, timeout_s = settings.upload_limit_bytes, settings.body_timeout_s
    await check_cell_exists(publisher, change.cell_id)
    async with receive_upload(request, change.head, limit, timeout_s) as upload:
        origin = change.origin(upload.digest, datetime.now(UTC))
        read = partial(read_fingerprints, upload, media_type, change.cell_id, limit)
        if dry_run:
            rehearsed = partial(
                report_addition,
                publisher,
                read=read,
                check_channel=_check_same_channel,
                change=change,
                origin=origin,
            )
            return JSON.response(await publisher.rehearse(change.cell_id, rehearsed, change.conditions))
        with publisher.progress.follow(change.cell_id, "reading"):
            body = await publisher.read(read)

        def append(before: Contents | None) -> Update:
            before = require_cell(before)
            cell = before.manifest.cell
            if body.cell is not None:
                _check_same_channel(body.cell, cell)
            fingerprints = body.fingerprints(cell)
            assert fingerprints is not None
            return append_judged(before, fingerprints, origin, force=change.conditions.force)

        return change_response(await publisher.publish(change.cell_id, append, change.conditions, origin))


@_changes.post(
    "/cells/{cellId}/fingerprints/delete",
    response_model=CellDetail | Preview,
    responses=change_responses(),
    summary="Delete fingerprints",
)
async def delete_fingerprints(
    change: Change,
    origin: ChangeOrigin,
    body: Selection,
    publisher: UpdatesPublisher,
    dry_run: Annotated[
        Flag, Query(alias="dryRun", description="Delete nothing. The answer is a Preview that counts the fingerprints.")
    ] = False,
) -> Response:
    """Deletes the fingerprints that meet all criteria of the body."""
    if dry_run:
        preview = await publisher.read(_preview_deletion, publisher.store, change, body)
        return JSON.response(preview)

    def delete(before: Contents | None) -> Update:
        before = require_cell(before)
        return update.delete_fingerprints(before, select_fingerprints(body, before), origin)

    return change_response(await publisher.publish(change.cell_id, delete, change.conditions, origin))


@_changes.post(
    "/cells/{cellId}/fingerprints/forget",
    response_model=Forgotten | ForgettingPreview,
    responses=change_responses(),
    summary="Forget fingerprints",
)
async def forget_fingerprints(
    change: Change,
    origin: ChangeOrigin,
    body: Selection,
    publisher: UpdatesPublisher,
    error_maps: Annotated[ErrorMaps, Depends(get_error_maps)],
    dry_run: Annotated[
        Flag, Query(alias="dryRun", description="Forget nothing. The answer is a ForgettingPreview.")
    ] = False,
) -> Response:
    """Removes the fingerprints that meet all criteria of the body from the reference database for good.

    Publishes a version without them and removes every older version that holds one of them, in one step. Also finds
    fingerprints that were deleted before, and those that only older versions hold. No rollback brings them back.
    """
    if dry_run:
        return JSON.response(await publisher.read(preview_forgetting, publisher.store, change, body))

    def forget(before: Contents | None) -> Update:
        before = require_cell(before)
        doomed = select_fingerprints(body, before.with_deleted())
        return update.forget_fingerprints(before, doomed, find_holders(publisher.store, before, body), origin)

    published = await publisher.publish(change.cell_id, forget, change.conditions, origin)
    await error_maps.drop_removed()
    return forgetting_response(published, datetime.now(UTC))


@router.get(
    "/cells/{cellId}/errors",
    responses=problem_responses(
        *_READING_ERRORS,
        errors.CellNotServed,
        errors.BandNotServed,
        errors.CellTooSmall,
        errors.Congested,
        errors.InferenceFailed,
        errors.ExaminerEnded,
        errors.NotReady,
    ),
    summary="Measure errors of fingerprints",
)
async def show_errors(
    cell_id: CellName,
    error_maps: Annotated[ErrorMaps, Depends(get_error_maps)],
    version: VersionInQuery = None,
    limit: Annotated[
        int, Query(ge=1, le=LARGEST_SAMPLE, description="The most fingerprints to locate."), DIGITS_ONLY
    ] = SAMPLE,
) -> ErrorMap:
    """Locates a sample of a version's fingerprints. Each is left out of the cell while the service locates it, and no
    coarse position is used.

    The first request takes seconds for a hundred fingerprints, as users go first. The service then remembers the
    errors of this version. If too many requests wait for errors, the answer is 503 with `Retry-After`.
    """
    return await error_maps.measure(cell_id, version, limit)


@router.get(
    "/cells/{cellId}/export",
    response_class=StreamingResponse,
    responses={
        200: {"description": "A fingerprint file.", "content": {FILE: {"schema": FILE_SCHEMA}}, **TAGGED},
        **problem_responses(*_READING_ERRORS, errors.CellTooSmall, errors.StorageFull),
    },
    summary="Export fingerprints",
)
async def export_cell(
    cell_id: CellName,
    publisher: UpdatesPublisher,
    version: VersionInQuery = None,
    file_format: Annotated[FileFormat, Query(alias="format", description="The kind of file.")] = "safetensors",
) -> Response:
    """A version as a file that can be imported again."""
    manifest, file = await publisher.read(write_export, publisher.store, cell_id, version, file_format)
    return Download(file, manifest, file_format)


router.include_router(_uploads)
router.include_router(_changes)


def append_judged(before: Contents, fingerprints: Fingerprints, origin: Origin, *, force: bool) -> Update:
    """The update that appends fingerprints, with the findings about them.

    Raises what `append_fingerprints` and `judge_addition` raise.
    """
    made = update.append_fingerprints(before, fingerprints, origin)
    return with_findings(made, judge_addition(before, made, fingerprints, force=force))


def _encode_page(store: Store, cell_id: str, version: str | None, limit: int, after: str | None) -> bytes:
    """A `FingerprintList` as JSON. Blocking."""
    manifest = find_version(store, cell_id, version)
    contents = read_contents(store, manifest)
    first = 0 if after is None else _find_row(contents, after) + 1
    rows = slice(first, first + limit)
    ids = format_ids(contents.ids[rows])
    times = np.minimum(contents.times[rows], _LAST_TIME)
    columns = (contents.positions[rows].tolist(), times.tolist(), contents.sigmas[rows].tolist())
    listed = [
        ListedFingerprint(id=name, x=x, y=y, time=datetime.fromtimestamp(time, UTC) if time else None, sigma=sigma)
        for name, (x, y), time, sigma in zip(ids, *columns, strict=True)
    ]
    more = first + limit < len(contents)
    return JSON.encode(
        FingerprintList(
            version=manifest.version, count=len(contents), fingerprints=listed, next=ids[-1] if more else None
        )
    )


def _find_row(contents: Contents, name: str) -> int:
    try:
        (found,) = np.nonzero(contents.ids == parse_id(name))
    except (ValueError, OverflowError) as error:
        raise FieldIncorrect("query after", "not the id of a fingerprint") from error
    if not len(found):
        raise FieldIncorrect("query after", "this version has no such fingerprint")
    return int(found[0])


def _check_same_channel(described: Cell, cell: Cell) -> None:
    """A file may describe an older state of its cell, but its numbers must have the same meaning."""
    for name in ("latitude_deg", "longitude_deg", "array", "carrier_frequency", "bandwidth", "subcarriers"):
        if getattr(described, name) != getattr(cell, name):
            raise UpdateRefused(f"the file describes a cell with another {name}")


def _preview_deletion(store: Store, change: ChangeRequest, selection: Selection) -> Preview:
    """The number of fingerprints that a deletion would remove. Blocking."""
    manifest = find_expected_version(store, change)
    contents = read_contents(store, manifest)
    selected = int(select_fingerprints(selection, contents).sum())
    return Preview(version=manifest.version, selected=selected, fingerprints=len(contents))
