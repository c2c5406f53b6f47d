"""A request to change a cell: conditions, author, note and idempotency key, in addition to the body."""

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, Header, Query, Request
from pydantic import Field
from starlette.responses import Response

from reference_db.manifest import Manifest, RequestKey
from reference_db.stores.store import Store
from reference_db.update import Origin
from service import errors
from service.cells.drift import Drift
from service.errors import CellNotFound, FieldIncorrect, ServiceError
from service.updates.cell_wire import describe_version
from service.updates.history import find_current_version
from service.updates.parameters import Flag, LongText, Text, get_publisher
from service.updates.publisher import Conditions, Published, Publisher
from service.web.media import JSON, READING_ERRORS
from service.web.parameters import CellName, cell_name
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

T = TypeVar("T")

_ETAG: dict[str, Any] = {"description": "The version, quoted.", "schema": {"type": "string"}}
_REPLAYED: dict[str, Any] = {
    "description": "`true` where an earlier request with the same Idempotency-Key made this version.",
    "schema": {"type": "string"},
}
TAGGED: dict[str, Any] = {"headers": {"ETag": _ETAG}}
PUBLISHED: dict[str, Any] = {"headers": {"ETag": _ETAG, "Idempotency-Replayed": _REPLAYED}}
STORE_ERRORS = (errors.CellUnreadable, errors.StoreDown, errors.OutOfMemory)
_CHANGE_ERRORS = (
    *(kind for kind in READING_ERRORS if kind is not errors.NotAcceptable),
    *STORE_ERRORS,
    errors.CellNotFound,
    errors.CellTooSmall,
    errors.CellNotServed,
    errors.BandNotServed,
    errors.NoTrajectoryArtifact,
    errors.NoMeasuringArtifact,
    errors.UpdateRefused,
    errors.VersionRefused,
    errors.PreconditionFailed,
    errors.IdempotencyKeyReused,
    errors.StorageFull,
    errors.InferenceFailed,
    errors.ExaminerEnded,
)


class ChangeRequest(NamedTuple):
    """`head` is the request without headers and body, as bytes. `key` is the idempotency key."""

    cell_id: str
    conditions: Conditions
    author: str
    note: str
    key: str | None
    head: bytes

    def origin(self, digest: str, now: datetime) -> Origin:
        """`digest`: the sha256 of head and body."""
        key = None if self.key is None else RequestKey(key=sha256(self.key.encode()).hexdigest(), body=digest)
        return Origin(self.author, now, self.note, key)


def read_change_request(
    request: Request,
    cell_id: CellName,
    author: Annotated[Text, Query(description="The author of the change. The version keeps this text.")] = "",
    note: Annotated[LongText, Query(description="The reason of the change. The version keeps this text.")] = "",
    force: Annotated[
        Flag,
        Query(
            description="Publish even if users would be located far worse, or if the artifact cannot serve the cell."
        ),
    ] = False,
    if_match: Annotated[
        Annotated[str, Field(json_schema_extra={"pattern": "^[^,]*$"})] | None,
        Header(alias="If-Match", description="Change the cell only at this version. `*`: at any version."),
    ] = None,
    if_none_match: Annotated[
        Annotated[str, Field(json_schema_extra={"enum": ["*"]})] | None,
        Header(alias="If-None-Match", description="`*`: change the cell only if it does not exist."),
    ] = None,
    idempotency_key: Annotated[
        Annotated[str, Field(pattern="^[ -~]{1,256}$")] | None,
        Header(
            alias="Idempotency-Key",
            description="The service answers a second request with the same key and body without a second change.",
        ),
    ] = None,
) -> ChangeRequest:
    """Raises `CellNotFound` or `FieldIncorrect`."""
    return ChangeRequest(
        cell_id=cell_id,
        conditions=Conditions(_read_if_match(request), _read_if_none_match(request), force),
        author=author,
        note=note,
        key=idempotency_key,
        head=f"{request.method} {request.url.path}?{request.url.query}\n".encode(),
    )


Change = Annotated[ChangeRequest, Depends(read_change_request)]


async def read_origin(request: Request, change: Change) -> Origin:
    """The origin of a change whose body `ExistingCellRoute` has read."""
    return change.origin(sha256(change.head + await request.body()).hexdigest(), datetime.now(UTC))


ChangeOrigin = Annotated[Origin, Depends(read_origin)]


class ExistingCellRoute(ApiRoute):
    """Answers 404 before the body is read unless the cell exists."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            await check_cell_exists(get_publisher(request), cell_name(request.path_params["cellId"]))
            return await handle(request)

        return check_and_handle


async def check_cell_exists(publisher: Publisher, cell_id: str) -> None:
    """Raises `CellNotFound`. A cell that is damaged exists: it can still be deleted."""
    try:
        exists = bool(await publisher.read(publisher.store.newest, cell_id))
    except errors.CellUnreadable:
        return
    if not exists:
        raise CellNotFound("/cellId", "no such cell")


def find_expected_version(store: Store, change: ChangeRequest) -> Manifest:
    """The current version, for a dry run. Raises `CellNotFound` or `PreconditionFailed`. Blocking."""
    manifest = find_current_version(store, change.cell_id)
    if change.conditions.if_match not in (None, "*", manifest.version):
        raise errors.PreconditionFailed(f"the cell is at version {manifest.version}")
    return manifest


def require_cell(before: T | None) -> T:
    """What a change starts from. Raises `CellNotFound` where the cell does not exist."""
    if before is None:
        raise CellNotFound("/cellId", "no such cell")
    return before


def change_responses(*others: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that changes a cell, and may raise `others`, too."""
    return {200: PUBLISHED, **problem_responses(*_CHANGE_ERRORS, *others)}


def version_response(
    manifest: Manifest, status: int = 200, headers: dict[str, str] | None = None, drift: Drift | None = None
) -> Response:
    """A version in full, with its name as the ETag."""
    tagged = {"ETag": f'"{manifest.version}"'} | (headers or {})
    return Response(JSON.encode(describe_version(manifest, drift)), status, tagged, media_type=JSON.media_type)


def change_response(published: Published) -> Response:
    """201 for a cell that the change created, else 200."""
    created = published.manifest.change.action == "created"
    replayed = {"Idempotency-Replayed": "true"} if published.replayed else {}
    return version_response(published.manifest, 201 if created else 200, replayed)


def _read_if_match(request: Request) -> str | None:
    """One version, quoted or not, or `*`. A weak or unknown tag matches no version (RFC 9110)."""
    values = request.headers.getlist("if-match")
    if not values:
        return None
    if len(values) > 1 or "," in values[0]:
        raise FieldIncorrect("header If-Match", "neither one version nor *")
    return re.sub(r'^"(.*)"$', r"\1", values[0].strip())


def _read_if_none_match(request: Request) -> bool:
    values = request.headers.getlist("if-none-match")
    if values not in ([], ["*"]):
        raise FieldIncorrect("header If-None-Match", "only * is allowed")
    return bool(values)
