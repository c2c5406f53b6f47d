"""Forgetting fingerprints: where they are, and what a forgetting has removed."""

from datetime import datetime

from pydantic import TypeAdapter
from starlette.responses import Response
from typing_extensions import TypedDict

from fingerpost.wire_fingerprints import ForgettingPreview, Forgotten, Selection
from reference_db.contents import Contents, read_contents
from reference_db.errors import CorruptManifest, CorruptSegment, MissingSegment, UnknownVersion
from reference_db.manifest import FORGOTTEN
from reference_db.stores.store import Store
from service.updates.change_request import ChangeRequest, find_expected_version
from service.updates.publisher import Published
from service.updates.selection import select_fingerprints
from service.web.media import JSON


class _Erased(TypedDict):
    fingerprints: int
    versions: list[int]


_ERASED = TypeAdapter(_Erased)


def find_holders(store: Store, current: Contents, selection: Selection) -> list[int]:
    """The numbers of the versions that hold a selected fingerprint, deleted or not, ascending. Blocking.

    A damaged version counts as one: it may hold any fingerprint. Raises `FieldIncorrect` and `StoreUnavailable`.
    """
    manifest, held, holders = current.manifest, current, []
    for number in reversed(store.numbers(manifest.cell.cell_id)):
        try:
            if number != manifest.number:
                held = read_contents(store, store.manifest(manifest.cell.cell_id, number), held)
            holds = bool(select_fingerprints(selection, held.with_deleted()).any())
        except UnknownVersion:  # removed meanwhile
            continue
        except (CorruptManifest, CorruptSegment, MissingSegment):
            holds = True
        if holds:
            holders.append(number)
    return holders[::-1]


def preview_forgetting(store: Store, change: ChangeRequest, selection: Selection) -> ForgettingPreview:
    """What a forgetting would remove. Blocking."""
    contents = read_contents(store, find_expected_version(store, change))
    return ForgettingPreview(
        version=contents.manifest.version,
        fingerprints=int(select_fingerprints(selection, contents.with_deleted()).sum()),
        versions=find_holders(store, contents, selection),
    )


def forgetting_response(published: Published, now: datetime) -> Response:
    """What a forgetting removed, also one that an earlier request with the same idempotency key did."""
    manifest = published.manifest
    erased = _ERASED.validate_python(manifest.quality[FORGOTTEN])
    forgotten = Forgotten(
        version=manifest.version,
        forgotten=erased["fingerprints"],
        removed_versions=erased["versions"],
        fingerprints=manifest.fingerprints,
        gone_at=now,
    )
    headers = {"ETag": f'"{manifest.version}"'} | ({"Idempotency-Replayed": "true"} if published.replayed else {})
    return Response(JSON.encode(forgotten), 200, headers, media_type=JSON.media_type)
