"""Where operators' requests go."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.locating.live import Live
from service.settings import Settings
from service.updates.cells import Cells
from service.updates.error_map import ErrorMaps
from service.updates.export import Export
from service.updates.listing import Listing
from service.updates.publisher import Publisher
from service.updates.versions import Versions
from service.updates.writes import Writes

_Endpoint = Callable[[Request], Awaitable[Response]]


def operator_routes(publisher: Publisher, settings: Settings, error_maps: ErrorMaps, live: Live) -> list[Route]:
    """``/cells`` and everything below it."""
    cells, writes, versions = Cells(publisher), Writes(publisher, settings), Versions(publisher)
    listing, export = Listing(publisher), Export(publisher)
    return [
        _route("/cells", GET=cells.list_cells),
        _route("/cells/{cell_id}", GET=cells.show_cell, PUT=writes.put_cell),
        _route("/cells/{cell_id}/fingerprints", GET=listing.endpoint, POST=writes.append),
        _route("/cells/{cell_id}/fingerprints/delete", POST=writes.delete),
        _route("/cells/{cell_id}/retention", PUT=writes.set_retention),
        _route("/cells/{cell_id}/model", PUT=writes.set_model),
        _route("/cells/{cell_id}/rollback", POST=writes.roll_back),
        _route("/cells/{cell_id}/versions", GET=versions.list_versions),
        _route("/cells/{cell_id}/versions/{version}", GET=versions.show_version),
        _route("/cells/{cell_id}/versions/{version}/diff/{other}", GET=versions.diff),
        _route("/cells/{cell_id}/errors", GET=error_maps.endpoint),
        _route("/cells/{cell_id}/live", GET=live.endpoint),
        _route("/cells/{cell_id}/export", GET=export.endpoint),
    ]


def _route(path: str, **by_method: _Endpoint) -> Route:
    """One route a path: of two Starlette would tell whoever tries a third method of the first one's only."""

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method](request)

    return Route(path, endpoint, methods=list(by_method))
