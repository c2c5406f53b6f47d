"""`HEAD`: every `GET`, without the body. FastAPI routes do not answer it by themselves."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """ASGI middleware: answers HEAD by the headers of the answer to GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy: the server itself looks at the method again before it sends the body.
        as_get = {**scope, "method": "GET"}

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if "route" in as_get:
                scope["route"] = as_get["route"]  # for the metrics and the trace
            await send(message)

        await self._app(as_get, receive, send_headers)
