"""Checks the API key of each request before its body is read."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.key_store import KeyHolder, KeyStore
from service.auth.route_scopes import scope_needed
from service.errors import ServiceError
from service.web.problems import on_service_error

_HOLDER = "fingerpost.key_holder"


class AuthMiddleware:
    """ASGI middleware in front of the router: unknown paths need a key too. Puts the key's holder into the scope."""

    def __init__(self, app: ASGIApp, keys: KeyStore, *, metrics_open: bool) -> None:
        self._app = app
        self._keys = keys
        self._metrics_open = metrics_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            needed = scope_needed(scope["method"], scope["path"])
            if needed is not None and not (self._metrics_open and scope["path"] == "/metrics"):
                try:
                    scope[_HOLDER] = self._keys.authorize(_read_authorization(scope), needed)
                except ServiceError as error:
                    response = await on_service_error(Request(scope), error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def charge(request: Request, users: int) -> None:
    """Charges the key of a request for `users` more than the one that was charged with the request itself."""
    holder: KeyHolder | None = request.scope.get(_HOLDER)
    if holder is not None and holder.bucket is not None:
        holder.bucket.charge(users)


def key_id_of(request: Request) -> str:
    """The public id of a request's key; empty where the service needs no keys."""
    holder: KeyHolder | None = request.scope.get(_HOLDER)
    return "" if holder is None else holder.record.id


def _read_authorization(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            found: bytes = value
            return found
    return None
