"""The way past the router, for the routes that are asked most."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.problems import EXPECTED, on_expected_error


class Shortcut:
    """ASGI middleware: finds routes by their very path and method, and leaves every other request to the router.

    The endpoints are coroutine functions, the paths have no parameters. To match patterns and to wrap the endpoint
    anew for each request takes longer than some answers do.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request, endpoint = Request(scope, receive, send), route.endpoint
        try:
            response = await endpoint(request)
        except EXPECTED as error:
            response = await on_expected_error(request, error)
        await response(scope, receive, send)
