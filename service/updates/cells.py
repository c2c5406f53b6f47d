"""The routes of cells."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from fingerpost.wire_cells import (
    CellCorrection,
    CellDetail,
    CellFault,
    CellList,
    CellModel,
    CellProgress,
    CellRetention,
    RetentionPreview,
)
from fingerpost.wire_fingerprints import CellBody
from fingerpost.wire_survey import SurveyReport
from fingerpost.wire_versions import RemovedVersions
from reference_db import update
from reference_db.contents import Contents, read_contents
from reference_db.manifest import Manifest
from reference_db.retention import Retention
from reference_db.stores.store import Store
from reference_db.update import Origin, Update
from service.cells.faults import describe_fault
from service.errors import (
    CellNotFound,
    ConditionMissing,
    FieldIncorrect,
    FieldMissing,
    PreconditionFailed,
    StoreDown,
    SurveyImplausible,
    UnknownField,
)
from service.updates.cell_wire import read_correction, read_retention
from service.updates.change_request import (
    PUBLISHED,
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
    version_response,
)
from service.updates.error_map import ErrorMaps, get_error_maps
from service.updates.fingerprint_input import FILE_BODY, FILE_ERRORS, read_cell, read_media_type
from service.updates.history import describe_removal, find_current_version, read_current_versions
from service.updates.overview import Overview
from service.updates.parameters import Faults, Flag, ImportDryRun, UpdatesPublisher
from service.updates.plausibility import judge_correction, judge_survey, with_findings
from service.updates.survey_report import report_cell
from service.updates.uploads import UploadRoute, receive_upload, takes_upload
from service.web.media import JSON
from service.web.parameters import CellName
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

_log = logging.getLogger("fingerpost.updates")

router = APIRouter(tags=["cells"], route_class=ApiRoute)
_uploads = APIRouter(route_class=UploadRoute)
_changes = APIRouter(route_class=ExistingCellRoute)


@router.get(
    "/cells",
    responses=problem_responses(UnknownField, *STORE_ERRORS),
    summary="List the cells",
)
async def list_cells(request: Request, publisher: UpdatesPublisher, faults: Faults) -> CellList:
    """The current version of each cell, in short, how this replica serves it, and the cells that cannot be read."""
    versions, unread = await publisher.read(read_current_versions, publisher.store)
    for cell_id, version in versions.items():
        faults.note_current(cell_id, None if version is None else version.digest)
    for cell_id, error in unread.items():
        faults.record(cell_id, describe_fault(error))
    overview: Overview = request.app.state.overview
    found = [version for version in versions.values() if version is not None]
    summaries = await publisher.read(lambda: [overview.summarise(version) for version in found])
    return CellList(
        cells=summaries,
        unreadable=sorted(unread) or None,
        faults=[
            CellFault(cell_id=cell_id, cause=fault.cause, detail=fault.detail)
            for cell_id, fault in sorted(faults.all().items())
        ]
        or None,
        incomplete=publisher.store.misses_cells() or None,
    )


@router.get(
    "/cells/{cellId}",
    response_model=CellDetail,
    responses={200: TAGGED, **problem_responses(CellNotFound, UnknownField, *STORE_ERRORS)},
    summary="Show a cell",
)
async def show_cell(request: Request, cell_id: CellName, publisher: UpdatesPublisher) -> Response:
    """The current version of a cell, and whether its traffic on this replica still fits it."""
    version = await publisher.read(find_current_version, publisher.store, cell_id)
    overview: Overview = request.app.state.overview
    return version_response(version, drift=overview.find_drift(version))


@router.get(
    "/cells/{cellId}/change",
    responses=problem_responses(CellNotFound, UnknownField),
    summary="Show the progress of a change",
)
async def show_change(cell_id: CellName, publisher: UpdatesPublisher) -> CellProgress:
    """The stage that the change of a cell has reached on this replica; of a cell that is being created, too."""
    if publisher.progress.of(cell_id).stage is None:
        try:
            await check_cell_exists(publisher, cell_id)
        except StoreDown:
            pass  # this replica changes nothing anyway
        except CellNotFound:
            if publisher.progress.of(cell_id).stage is None:  # no change has begun meanwhile
                raise
    return publisher.progress.of(cell_id)


@_uploads.put(
    "/cells/{cellId}",
    response_model=CellDetail | SurveyReport,
    responses={
        201: {"model": CellDetail, "description": "The cell was created.", **PUBLISHED},
        **change_responses(*FILE_ERRORS),
    },
    summary="Create or replace a cell",
    openapi_extra=FILE_BODY,
)
@takes_upload(CellBody)
async def put_cell(
    request: Request, change: Change, publisher: UpdatesPublisher, dry_run: ImportDryRun = False
) -> Response:
    """Creates a cell, or replaces its description and all its fingerprints."""
    media_type, settings = read_media_type(request), request.app.state.settings
    limit, timeout_s = settings.upload_limit_bytes, settings.body_timeout_s
    async with receive_upload(request, change.head, limit, timeout_s) as upload:
        origin = change.origin(upload.digest, datetime.now(UTC))
        if dry_run:
            read = partial(read_cell, upload, media_type, change.cell_id, limit)
            rehearsed = partial(report_cell, publisher, read=read, change=change, origin=origin)
            return JSON.response(await publisher.rehearse(change.cell_id, rehearsed, change.conditions))
        with publisher.progress.follow(change.cell_id, "reading"):
            body = await publisher.read(read_cell, upload, media_type, change.cell_id, limit)

        def replace_cell(before: Manifest | None) -> Update:
            if body.cell is None and before is None:
                raise CellNotFound("/cellId", "no such cell, and the body does not describe it")
            cell = body.cell or require_cell(before).cell
            fingerprints = body.fingerprints(cell)
            made = update.replace_cell(before, cell, fingerprints, origin)
            if fingerprints is None:
                return made
            return with_findings(made, judge_survey(fingerprints, cell, whole=True, force=change.conditions.force))

        return change_response(await publisher.replace(change.cell_id, replace_cell, change.conditions, origin))


@_changes.delete(
    "/cells/{cellId}",
    responses=problem_responses(
        CellNotFound, FieldIncorrect, UnknownField, ConditionMissing, PreconditionFailed, *STORE_ERRORS
    ),
    summary="Delete a cell",
)
async def delete_cell(
    change: Change, publisher: UpdatesPublisher, error_maps: Annotated[ErrorMaps, Depends(get_error_maps)]
) -> RemovedVersions:
    """Removes a cell with all its versions and fingerprints. Needs `If-Match` or `force=true`.

    No rollback brings the cell back. A cell of the same name can be created again; it begins with version 1. `author`
    and `note` go into the log.
    """
    if change.conditions.if_match is None and not change.conditions.force:
        raise ConditionMissing("deleting a cell needs If-Match with its version, or --force, in HTTP force=true")
    removal = await publisher.remove_cell(change.cell_id, change.conditions)
    _log.info("cell %s: deleted by %r: %r", change.cell_id, change.author, change.note)
    await error_maps.drop_removed()
    return describe_removal(change.cell_id, removal)


@_changes.patch(
    "/cells/{cellId}",
    response_model=CellDetail,
    responses=change_responses(FieldMissing, SurveyImplausible),
    summary="Correct the description of a cell",
)
async def correct_cell(
    change: Change, origin: ChangeOrigin, body: CellCorrection, publisher: UpdatesPublisher
) -> Response:
    """Changes the given fields of a cell's description, and none of its CSI.

    Positions of fingerprints are metres from the base station. If `point` changes, `fingerprints` says whether they
    move with the base station on Earth, or stay where they are and get new positions in metres, and new ids.
    """
    if body.point is not None and body.fingerprints is None:
        raise FieldMissing("/fingerprints", "required with point: move or stay")

    def correct(before: Contents | None) -> Update:
        before = require_cell(before)
        cell = read_correction(body, before.manifest.cell)
        made = update.correct_cell(before, cell, origin, stay=body.fingerprints == "stay")
        return with_findings(made, judge_correction(before, made, force=change.conditions.force))

    return change_response(await publisher.publish(change.cell_id, correct, change.conditions, origin))


@_changes.put(
    "/cells/{cellId}/retention",
    response_model=CellDetail | RetentionPreview,
    responses=change_responses(),
    summary="Set the retention of a cell",
)
async def set_retention(
    change: Change,
    origin: ChangeOrigin,
    body: CellRetention,
    publisher: UpdatesPublisher,
    dry_run: Annotated[
        Flag,
        Query(alias="dryRun", description="Set nothing. The answer is a RetentionPreview that counts fingerprints."),
    ] = False,
) -> Response:
    """Sets how long the cell keeps its fingerprints. The service removes others at once, and from then on."""
    retention = read_retention(body)
    if dry_run:
        return JSON.response(await publisher.read(_preview_retention, publisher.store, change, retention, origin))

    def change_retention(before: Contents | None) -> Update:
        return update.set_retention(require_cell(before), retention, origin)

    return change_response(await publisher.publish(change.cell_id, change_retention, change.conditions, origin))


@_changes.put(
    "/cells/{cellId}/model",
    response_model=CellDetail,
    responses=change_responses(),
    summary="Set the models of a cell",
)
async def set_model(change: Change, origin: ChangeOrigin, body: CellModel, publisher: UpdatesPublisher) -> Response:
    """Sets which models may locate users in the cell."""

    def change_model(before: Contents | None) -> Update:
        return update.set_model_policy(require_cell(before), body.policy, origin)

    return change_response(await publisher.publish(change.cell_id, change_model, change.conditions, origin))


def _preview_retention(store: Store, change: ChangeRequest, retention: Retention, origin: Origin) -> RetentionPreview:
    """Counts the fingerprints that a retention would remove. Blocking."""
    manifest = find_expected_version(store, change)
    contents = read_contents(store, manifest)
    excess = retention.find_excess(contents.positions, contents.times, origin.now.timestamp())
    old, close, many = (int(one.sum()) for one in excess)
    return RetentionPreview(
        version=manifest.version,
        fingerprints=len(contents),
        selected=old + close + many,
        too_old=old,
        too_close=close,
        too_many=many,
    )


router.include_router(_uploads)
router.include_router(_changes)
