"""Talking to the operators' API, of a service that runs somewhere or of one in this process."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from service.commands.identity import identity_of_environment
from service.commands.options import fail, settings_of

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_TIMEOUT_S, _SILENCE_S = 60, 3600  # to publish may take minutes, and the service is silent meanwhile
_ROW = re.compile(r"^/fingerprints/(\d+)")


class Where(NamedTuple):
    """A service at `url`; without one this process serves `database` by `artifact`, without a port."""

    url: str | None
    database: str | None
    artifact: Path | None


class Refused(Exception):
    """The service answered with a problem; the text is fit for a person."""


def talk(where: Where, conversation: "Callable[[httpx.AsyncClient], Awaitable[T]]") -> T:
    """What the conversation comes to; exits with a line about it where it fails."""
    import httpx

    async def whole() -> T:
        async with _client(where) as client:
            return await conversation(client)

    try:
        return asyncio.run(whole())
    except Refused as error:
        fail(str(error))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"no answer from {where.url}: {error or type(error).__name__}")


def good(response: "httpx.Response") -> "httpx.Response":
    """The response, its body read. Raises `Refused` where it is a problem."""
    if response.is_success:
        return response
    try:
        problem: Any = response.json()
        lines = [f"{problem['cause']}: {_said(problem['detail'])}"]
        params = [f"{one['param']}: {one['reason']}" for one in problem.get("invalidParams", [])]
    except (ValueError, KeyError, TypeError):
        raise Refused(f"answered {response.status_code} {response.reason_phrase}") from None
    raise Refused("\n  ".join(lines + [_said(param) for param in params if param not in problem["detail"]]))


def _said(text: str) -> str:
    return _ROW.sub(r"row \1", text)


@asynccontextmanager
async def _client(where: Where) -> AsyncIterator["httpx.AsyncClient"]:
    import httpx

    from fingerpost.client import headers_of

    if where.url is not None:
        identity = identity_of_environment()
        async with httpx.AsyncClient(
            base_url=where.url.rstrip("/"),
            headers=headers_of(identity.key),
            verify=identity.verify,
            timeout=httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S),
        ) as client:
            yield client
        return
    app = _app(where)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://fingerpost") as client,
    ):
        yield client


def _app(where: Where) -> Any:
    # Whoever can open the database needs no key for it.
    unlike_serving = {"keys_file": None, "traces_endpoint": None}
    settings = settings_of(where.database, artifact_directory=where.artifact).model_copy(update=unlike_serving)
    from models.artifact import ArtifactError
    from reference_db.errors import StoreUnavailable
    from service.app import create_app
    from service.inference.session import ModelUnusable

    try:
        return create_app(settings)
    except (ArtifactError, ModelUnusable) as error:
        fail(f"the artifact cannot be used: {error}")
    except (StoreUnavailable, ValueError) as error:
        fail(f"the reference database cannot be used: {error}")
