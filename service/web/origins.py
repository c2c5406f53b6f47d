"""Which requests are let in by their `Host`, `Origin` and `Content-Type`, before their body is read."""

from ipaddress import ip_address

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import CrossOrigin, HostIncorrect, HostNotAllowed, ServiceError, UnsupportedMediaType, shorten_name
from service.web.problems import on_service_error

_NO_BODY = (b"", b"0")
_SAME = (b"same-origin", b"none")  # none: the user typed the address


class OriginMiddleware:
    """ASGI middleware against web pages that use a browser to reach a service that needs no keys.

    A page can send requests to any address of the user's machine, and can make its own name resolve to that machine
    (DNS rebinding). A browser says which name it asked for, and from which page. Without keys a request must name a
    loopback address or one of `hosts`, and must not come from a page of another origin. `hosts` None: keys are
    required, which such a page does not have.

    Every request needs one `Host` (HTTP/1.0: at most one), and every body a `Content-Type`.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ServiceError as error:
                response = await on_service_error(Request(scope), error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises `HostIncorrect`, `HostNotAllowed`, `CrossOrigin` or `UnsupportedMediaType`."""
        headers: dict[bytes, bytes] = {}
        hosts = 0
        for name, value in scope["headers"]:
            headers[name] = value
            hosts += name == b"host"
        if hosts > 1 or (not hosts and scope["http_version"] != "1.0"):
            raise HostIncorrect(f"a request needs one Host header, this one has {hosts}")
        if self._hosts is not None:
            host = headers.get(b"host")
            if host is not None and (name := _name_in(host)) not in self._hosts and not _is_local(name):
                raise HostNotAllowed(
                    f"{shorten_name(host.decode('latin-1'))!r} is no name of this service: without keys it answers to "
                    "loopback names and to FINGERPOST_ALLOWED_HOSTS"
                )
            if _is_foreign(headers, scope["method"]):
                raise CrossOrigin("without keys, requests from web pages of other origins are refused")
        if b"content-type" not in headers and (
            headers.get(b"content-length", b"") not in _NO_BODY or b"transfer-encoding" in headers
        ):
            raise UnsupportedMediaType("a body needs a Content-Type")


def _name_in(host: bytes) -> str:
    """The name in a `Host` header, without the port, in lower case."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_foreign(headers: dict[bytes, bytes], method: str) -> bool:
    """Whether a browser says that a page of another origin sends the request.

    A link on such a page may be followed: the page does not see the answer. Browsers send `Sec-Fetch-Site` to
    loopback addresses and over TLS, `Origin` also elsewhere but not with each request.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None and site not in _SAME:
        link = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        return not (link and method in ("GET", "HEAD"))
    origin = headers.get(b"origin")
    if origin is None or site is not None:
        return False
    return origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()
