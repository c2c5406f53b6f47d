"""Operators' changes of a cell: each becomes a version, or nothing has changed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from reference_db.cell import Cell
from reference_db.contents import Contents, read_contents
from reference_db.manifest import Manifest
from reference_db.retention import Retention
from reference_db.update import (
    Origin,
    Update,
    append_fingerprints,
    delete_fingerprints,
    replace_cell,
    roll_back,
    set_model_policy,
    set_retention,
)
from service import errors
from service.settings import Settings
from service.updates.cell_input import retention_from
from service.updates.cell_wire import CellModel, CellRetention
from service.updates.cells import cell_id_of, current_of, detail_response
from service.updates.change_request import ChangeRequest, read_change_request
from service.updates.fingerprint_input import FILE, Sent, read_cell, read_fingerprints
from service.updates.legacy_media import format_of, media_type_of, read_body
from service.updates.legacy_wire import WireStruct
from service.updates.publisher import Published, Publisher
from service.updates.selection import Selection, selected
from service.updates.upload import Upload, uploaded
from service.updates.version_name import find_version

T = TypeVar("T")


class Rollback(WireStruct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Annotated[str, Meta(description="As answers name it, or its number alone.", examples=["3"])] | int


class Preview(WireStruct, frozen=True, kw_only=True):
    """What a deletion would take from a version."""

    version: str
    selected: int
    fingerprints: Annotated[int, Meta(description="How many the version holds.")]


class Writes:
    def __init__(self, publisher: Publisher, settings: Settings) -> None:
        self._publisher = publisher
        self._settings = settings

    async def put_cell(self, request: Request) -> Response:
        """``PUT /cells/{cellId}``: creates it, or replaces its description and all its fingerprints."""
        order, media_type = read_change_request(request), _upload_type(request)
        async with self._uploaded(request, order) as (upload, origin):
            sent = await self._read(read_cell, upload, media_type, order)

            def change(before: Manifest | None) -> Update:
                if sent.cell is None and before is None:
                    raise errors.CellNotFound("/cellId", "no such cell, and the body describes none")
                cell = sent.cell or _there(before).cell
                return replace_cell(before, cell, sent.fingerprints(cell), origin)

            return _answer(await self._publisher.replace(order.cell_id, change, order.conditions, origin))

    async def append(self, request: Request) -> Response:
        """``POST /cells/{cellId}/fingerprints``"""
        order, media_type = read_change_request(request), _upload_type(request)
        await self._check_there(request)
        async with self._uploaded(request, order) as (upload, origin):
            sent = await self._read(read_fingerprints, upload, media_type, order)

            def change(before: Contents | None) -> Update:
                before = _there(before)
                cell = before.manifest.cell
                if sent.cell is not None:
                    _check_same_channel(sent.cell, cell)
                fingerprints = sent.fingerprints(cell)
                assert fingerprints is not None
                return append_fingerprints(before, fingerprints, origin)

            return _answer(await self._publisher.publish(order.cell_id, change, order.conditions, origin))

    async def delete(self, request: Request) -> Response:
        """``POST /cells/{cellId}/fingerprints/delete``, or with `dryRun` what it would do."""
        order = read_change_request(request, "dryRun")
        selection, origin = await self._body(request, order, Selection)
        if order.dry_run:
            preview = await self._publisher.read(self._preview, order, selection)
            return Response(msgspec.json.encode(preview), media_type="application/json")

        def change(before: Contents | None) -> Update:
            before = _there(before)
            return delete_fingerprints(before, selected(selection, before), origin)

        return _answer(await self._publisher.publish(order.cell_id, change, order.conditions, origin))

    async def set_retention(self, request: Request) -> Response:
        """``PUT /cells/{cellId}/retention``"""
        order = read_change_request(request)
        sent, origin = await self._body(request, order, CellRetention)
        retention: Retention = retention_from(sent)

        def change(before: Contents | None) -> Update:
            return set_retention(_there(before), retention, origin)

        return _answer(await self._publisher.publish(order.cell_id, change, order.conditions, origin))

    async def set_model(self, request: Request) -> Response:
        """``PUT /cells/{cellId}/model``"""
        order = read_change_request(request)
        sent, origin = await self._body(request, order, CellModel)

        def change(before: Contents | None) -> Update:
            return set_model_policy(_there(before), sent.policy, origin)

        return _answer(await self._publisher.publish(order.cell_id, change, order.conditions, origin))

    async def roll_back(self, request: Request) -> Response:
        """``POST /cells/{cellId}/rollback``"""
        order = read_change_request(request)
        sent, origin = await self._body(request, order, Rollback)
        store = self._publisher.store

        def change(before: Manifest | None) -> Update:
            before = _there(before)
            target = find_version(store, order.cell_id, str(sent.version))
            if target.number == before.number:
                raise errors.UpdateRefused(f"the cell is at version {before.version} already")
            return roll_back(before, read_contents(store, target), origin)

        return _answer(await self._publisher.replace(order.cell_id, change, order.conditions, origin))

    @asynccontextmanager
    async def _uploaded(self, request: Request, order: ChangeRequest) -> AsyncIterator[tuple[Upload, Origin]]:
        limit, timeout = self._settings.upload_limit_bytes, self._settings.body_timeout_s
        async with uploaded(request, order.head, limit, timeout) as upload:
            yield upload, order.origin(upload.digest, datetime.now(UTC))

    async def _read(
        self, read: Callable[[Upload, str, str, int], Sent], upload: Upload, media_type: str, order: ChangeRequest
    ) -> Sent:
        limit = self._settings.upload_limit_bytes
        return await self._publisher.read(read, upload, media_type, order.cell_id, limit)

    async def _body(self, request: Request, order: ChangeRequest, expected: type[T]) -> tuple[T, Origin]:
        reads = format_of(media_type_of(request))
        await self._check_there(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        origin = order.origin(sha256(order.head + body).hexdigest(), datetime.now(UTC))
        return reads.read(body, expected), origin

    async def _check_there(self, request: Request) -> None:
        """Before anybody sends gigabytes in vain."""
        if not await self._publisher.read(self._publisher.store.newest, cell_id_of(request)):
            raise errors.CellNotFound("/cellId", "no such cell")

    def _preview(self, order: ChangeRequest, selection: Selection) -> Preview:
        store = self._publisher.store
        manifest = current_of(store, order.cell_id)
        if order.conditions.if_match not in (None, "*", manifest.version):
            raise errors.PreconditionFailed(f"the cell is at version {manifest.version}")
        contents = read_contents(store, manifest)
        count = int(selected(selection, contents).sum())
        return Preview(version=manifest.version, selected=count, fingerprints=len(contents))


def _upload_type(request: Request) -> str:
    media_type = media_type_of(request)
    if media_type != FILE:
        format_of(media_type, [FILE])
    return media_type


def _there(before: T | None) -> T:
    if before is None:
        raise errors.CellNotFound("/cellId", "no such cell")
    return before


def _check_same_channel(described: Cell, cell: Cell) -> None:
    """What a file says of its cell may be older than what is known now, but its numbers must mean the same."""
    for name in ("latitude_deg", "longitude_deg", "array", "carrier_frequency", "bandwidth", "subcarriers"):
        if getattr(described, name) != getattr(cell, name):
            raise errors.UpdateRefused(f"the file describes a cell of another {name}")


def _answer(published: Published) -> Response:
    created = published.manifest.change.action == "created"
    replayed = {"Idempotency-Replayed": "true"} if published.replayed else {}
    return detail_response(published.manifest, 201 if created else 200, replayed)
