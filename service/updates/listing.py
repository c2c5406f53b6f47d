"""``GET /cells/{cellId}/fingerprints``: what a cell holds, without the CSI; operators delete by these ids."""

from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from reference_db.contents import read_contents
from reference_db.stores.store import Store
from service.errors import FieldIncorrect
from service.updates.cells import cell_id_of
from service.updates.legacy_wire import WireStruct
from service.updates.publisher import Publisher
from service.updates.query import Query
from service.updates.selection import names_of
from service.updates.version_name import find_version

_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()  # what a cell holds from before such were refused
_PAGE, _LARGEST_PAGE = 1000, 100_000


class ListedFingerprint(WireStruct, frozen=True, kw_only=True):
    """Metres east and north of the base station; `sigma`, the 1-sigma error of the position, metres."""

    id: str
    x: float
    y: float
    time: Annotated[datetime, Meta(description="Absent where unknown.")] | UnsetType = UNSET
    sigma: float


class FingerprintList(WireStruct, frozen=True, kw_only=True):
    """A page of a version's fingerprints, in their order. To see one version page by page, name it."""

    version: str
    count: Annotated[int, Meta(description="How many the version holds.")]
    fingerprints: list[ListedFingerprint]
    next: Annotated[str, Meta(description="`after` of the next page; absent on the last.")] | UnsetType = UNSET


class _Page(NamedTuple):
    limit: int
    after: str | None


class Listing:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def endpoint(self, request: Request) -> Response:
        cell_id, query = cell_id_of(request), Query(request, "version", "limit", "after")
        page = _Page(query.number("limit", _LARGEST_PAGE) or _PAGE, query.text("after"))
        listed = await self._publisher.read(_encoded, self._publisher.store, cell_id, query.text("version"), page)
        return Response(listed, media_type="application/json")


def _encoded(store: Store, cell_id: str, version: str | None, page: _Page) -> bytes:
    manifest = find_version(store, cell_id, version)
    contents = read_contents(store, manifest)
    first = 0
    if page.after is not None:
        (found,) = np.nonzero(contents.ids == _number_of(page.after))
        if not len(found):
            raise FieldIncorrect("query after", "no fingerprint of this version")
        first = int(found[0]) + 1
    rows = slice(first, first + page.limit)
    names = names_of(contents.ids[rows])
    times = np.minimum(contents.times[rows], _LAST_TIME)
    columns = (contents.positions[rows].tolist(), times.tolist(), contents.sigmas[rows].tolist())
    listed = [
        ListedFingerprint(id=name, x=x, y=y, time=datetime.fromtimestamp(time, UTC) if time else UNSET, sigma=sigma)
        for name, (x, y), time, sigma in zip(names, *columns, strict=True)
    ]
    more = first + page.limit < len(contents)
    answer = FingerprintList(
        version=manifest.version, count=len(contents), fingerprints=listed, next=names[-1] if more else UNSET
    )
    return msgspec.json.encode(answer)


def _number_of(name: str) -> np.uint64:
    try:
        return np.uint64(int(name, 16))
    except (ValueError, OverflowError) as error:
        raise FieldIncorrect("query after", "no fingerprint's id") from error
