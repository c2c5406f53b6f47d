"""Where operators' requests go."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.settings import Settings
from service.updates.cells import Cells
from service.updates.error_map import ErrorMaps
from service.updates.export import Export
from service.updates.listing import Listing
from service.updates.publisher import Publisher
from service.updates.versions import Versions
from service.updates.writes import Writes

_Endpoint = Callable[[Request], Awaitable[Response]]


def operator_router(publisher: Publisher, settings: Settings, error_maps: ErrorMaps) -> APIRouter:
    """``/cells`` and everything below it."""
    cells, writes, versions = Cells(publisher), Writes(publisher, settings), Versions(publisher)
    listing, export = Listing(publisher), Export(publisher)
    router = APIRouter()
    for path, methods in {
        "/cells": dict(GET=cells.list_cells),
        "/cells/{cell_id}": dict(GET=cells.show_cell, PUT=writes.put_cell),
        "/cells/{cell_id}/fingerprints": dict(GET=listing.endpoint, POST=writes.append),
        "/cells/{cell_id}/fingerprints/delete": dict(POST=writes.delete),
        "/cells/{cell_id}/retention": dict(PUT=writes.set_retention),
        "/cells/{cell_id}/model": dict(PUT=writes.set_model),
        "/cells/{cell_id}/rollback": dict(POST=writes.roll_back),
        "/cells/{cell_id}/versions": dict(GET=versions.list_versions),
        "/cells/{cell_id}/versions/{version}": dict(GET=versions.show_version),
        "/cells/{cell_id}/versions/{version}/diff/{other}": dict(GET=versions.diff),
        "/cells/{cell_id}/errors": dict(GET=error_maps.endpoint),
        "/cells/{cell_id}/export": dict(GET=export.endpoint),
    }.items():
        _add_route(router, path, **methods)
    return router


def _add_route(router: APIRouter, path: str, **by_method: _Endpoint) -> None:
    """One route a path: of two Starlette would tell whoever tries a third method of the first one's only."""

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method](request)

    router.add_route(path, endpoint, methods=list(by_method))
