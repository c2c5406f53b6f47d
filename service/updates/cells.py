"""``GET /cells`` and ``/cells/{cellId}``: what the reference database holds."""

import re

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from reference_db.cell_id import CELL_ID_PATTERN
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.store_errors import translate_store_errors
from service.errors import CellNotFound, CellUnreadable
from service.updates.cell_wire import CellList, CellSummary, detail_of
from service.updates.publisher import Publisher

_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))


class Cells:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def list_cells(self, request: Request) -> Response:
        """``GET /cells``"""
        found = await self._publisher.read(_list, self._publisher.store)
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def show_cell(self, request: Request) -> Response:
        """``GET /cells/{cellId}``"""
        return detail_response(await self._publisher.read(current_of, self._publisher.store, cell_id_of(request)))


def cell_id_of(request: Request) -> str:
    """The cell that a request's path names. Raises `CellNotFound` for what can be no cell's name."""
    cell_id: str = request.path_params["cell_id"]
    if not _CELL_ID.fullmatch(cell_id):
        raise CellNotFound("/cellId", "no such cell")
    return cell_id


def current_of(store: Store, cell_id: str) -> Manifest:
    """Raises `CellNotFound`, and what the store raises. Blocks."""
    manifest = store.current(cell_id)
    if manifest is None:
        raise CellNotFound("/cellId", "no such cell")
    return manifest


def detail_response(manifest: Manifest, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A version in full, its name as the ETag."""
    tagged = {"ETag": f'"{manifest.version}"'} | (headers or {})
    return Response(msgspec.json.encode(detail_of(manifest)), status, tagged, media_type="application/json")


def _list(store: Store) -> CellList:
    """One damaged cell hides no other."""
    cells, unreadable = [], []
    for cell_id in store.cells():
        try:
            with translate_store_errors():
                manifest = store.current(cell_id)
        except CellUnreadable:
            unreadable.append(cell_id)
            continue
        if manifest is not None:
            cells.append(
                CellSummary(
                    cell_id=cell_id,
                    version=manifest.version,
                    fingerprints=manifest.fingerprints,
                    created_at=manifest.created_at,
                    author=manifest.change.author,
                    note=manifest.change.note,
                )
            )
    return CellList(cells=cells, unreadable=unreadable or UNSET)
