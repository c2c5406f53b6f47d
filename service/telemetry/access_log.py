"""The access log: one line for each request, with the fields that people search by."""

import logging
import time
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import shorten_name
from service.telemetry.problem_cause import find_cause

_log = logging.getLogger("fingerpost.access")


class AccessLog:
    """ASGI middleware that logs method, route, path, status, duration (seconds) and cause of each request.

    The path comes without its query, which may hold coordinates. uvicorn's own access log knows neither the route nor
    the duration, and writes one string.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive, note_status)
        finally:
            path = shorten_name(quote(scope["path"]))  # without control characters
            client = scope.get("client")
            fields = {
                "method": scope["method"],
                "route": getattr(scope.get("route"), "path", "none"),
                "path": path,
                "status": status,
                "duration": round(time.perf_counter() - start, 6),
                "client": client[0] if client else None,
            }
            if cause := find_cause(scope, status):
                fields["cause"] = cause
            _log.info("%s %s %d", scope["method"], path, status, extra={"fields": fields})


def log_refusal(route: str | None, status: HTTPStatus, cause: str, client: str | None) -> None:
    """Logs a request that was refused before it reached the app; `route`: None where it is not known."""
    fields = {"route": route or "none", "status": status.value, "client": client, "cause": cause}
    _log.info("refused %d %s", status, cause, extra={"fields": fields})
