"""The memory that bodies of requests may take together, over all connections."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import TooManyBodies

FREE_BYTES = 2**16  # of each body: bodies of one user always pass, and connections are limited
_ACCOUNT = "fingerpost.body_account"


class BodyBudget:
    """Counts the bytes of bodies that arrive or are being worked on. For the event loop's thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class BodyAccount:
    """The share of one request in the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def take(self, more: int) -> None:
        """Counts bytes that have arrived. Raises `TooManyBodies`."""
        counted = max(0, self._bytes - FREE_BYTES)
        self._bytes += more
        self._budget.held += max(0, self._bytes - FREE_BYTES) - counted
        if self._budget.held > self._budget.limit and self._bytes > FREE_BYTES:
            raise TooManyBodies("the bodies of other requests take all the memory that bodies may take")

    def release(self) -> None:
        """Counts no byte of this request any more."""
        self._budget.held -= max(0, self._bytes - FREE_BYTES)
        self._bytes = 0


class BodyBudgetMiddleware:
    """ASGI middleware that gives each request an account, and releases it when the request has been answered."""

    def __init__(self, app: ASGIApp, budget: BodyBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_ACCOUNT] = account = BodyAccount(self._budget)
        try:
            await self._app(scope, receive, send)
        finally:
            account.release()


def account_of(request: Request) -> BodyAccount:
    """The account of a request. Outside of the service, in tests, one of its own without a limit that matters."""
    found: BodyAccount | None = request.scope.get(_ACCOUNT)
    return BodyAccount(BodyBudget(2**62)) if found is None else found
