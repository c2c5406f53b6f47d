"""HTTP sessions with the operators' API: of a running service, or of an app in this process."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from service.commands.credentials import read_credentials
from service.commands.options import fail, load_settings, reject, warn_of_unknown_variables

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_TIMEOUT_S = 60
_READ_TIMEOUT_S = 3600  # a service may publish for minutes before it answers
_MEDIA_TYPES = ("application/json", "application/octet-stream")
_ROW = re.compile(r"^/fingerprints/(\d+)")


@dataclass(frozen=True)
class Target:
    """The service at `url`. Without a URL this process opens `database` itself, with the model `artifact`.

    `creates`: the command creates the database if it is not there.
    """

    url: str | None
    database: str | None
    artifact: Path | None
    creates: bool = False

    def __post_init__(self) -> None:
        if self.url is not None and self.database is not None:
            reject("give --url or --database, not both")
        if self.database == "":
            reject("--database is empty")

    @property
    def place(self) -> str:
        """The service or the database, for people: without a password."""
        if self.url is not None:
            from fingerpost.addresses import hide_credentials

            return hide_credentials(self.url)
        return load_settings(self.database).database


class ProblemReceived(Exception):
    """The service answered with an error. The text can be shown to a person."""


def run_session(target: Target, session: "Callable[[httpx.AsyncClient], Awaitable[T]]") -> T:
    """Runs `session` with a client of the target and returns its result. Exits with a message if it fails."""
    import httpx

    from fingerpost.errors import ClientError

    async def run() -> T:
        async with _open_client(target) as client:
            return await session(client)

    try:
        return asyncio.run(run())
    except (ProblemReceived, ClientError) as error:
        fail(str(error))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"no answer from {target.place}: {str(error) or type(error).__name__}")
    except UnicodeEncodeError as error:  # of a header, or of arguments that are no UTF-8
        reject(f"{error.object!r} cannot be sent: it has characters that are not allowed there")


def send_request(target: Target, method: str, path: str, **options: Any) -> "httpx.Response":
    """Sends one request; `options` as httpx has them. Exits with a message if it fails."""

    async def send(client: "httpx.AsyncClient") -> "httpx.Response":
        return raise_for_problem(await client.request(method, path, **options))

    return run_session(target, send)


def raise_for_problem(response: "httpx.Response") -> "httpx.Response":
    """Returns a successful response. Raises `ProblemReceived` for any other; its body must have been read."""
    if response.is_success:
        media_type = response.headers.get("content-type", "without a content type")
        if not media_type.startswith(_MEDIA_TYPES):  # a page of a proxy
            raise ProblemReceived(f"the answer is not one of this API, but {response.status_code} {media_type}")
        return response
    try:
        problem: Any = response.json()
        lines = [f"{problem['cause']}: {_name_row(problem['detail'])}"]
        wrong = problem.get("invalidParams") or []
        reasons = [f"{one['param']}: {one['reason']}" if one["param"] else one["reason"] for one in wrong]
        lines += [_name_row(reason) for reason in reasons if reason not in problem["detail"]]
    except (ValueError, KeyError, TypeError):
        raise ProblemReceived(f"the service answered {response.status_code} {response.reason_phrase}") from None
    raise ProblemReceived("\n  ".join(lines))


def _name_row(text: str) -> str:
    """Writes the JSON pointer of a fingerprint as the row of a file."""
    return _ROW.sub(r"row \1", text)


@asynccontextmanager
async def _open_client(target: Target) -> AsyncIterator["httpx.AsyncClient"]:
    import httpx

    from fingerpost.addresses import parse_address
    from fingerpost.client import authorization_headers
    from fingerpost.errors import ClientError

    if target.url is not None:
        credentials = read_credentials()
        try:
            headers = authorization_headers(credentials.key)
        except ClientError as error:
            fail(str(error))
        async with httpx.AsyncClient(
            base_url=parse_address(target.url.rstrip("/")),
            headers=headers,
            verify=credentials.verify,
            timeout=httpx.Timeout(_TIMEOUT_S, read=_READ_TIMEOUT_S),
        ) as client:
            yield client
        return
    app = _create_app(target)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def _create_app(target: Target) -> Any:
    warn_of_unknown_variables()
    settings = load_settings(target.database, artifact_directory=target.artifact)
    if not (target.creates or settings.redis_url or settings.database_directory.is_dir()):
        fail(f"no reference database at {settings.database_directory}; use --url or --database")
    # A user who can write the files of the database needs no API key.
    settings = settings.model_copy(update={"keys_file": None, "traces_endpoint": None})
    from models.artifact import ArtifactError
    from reference_db.errors import StoreUnavailable
    from service.app import create_app
    from service.inference.session import ModelUnusable

    try:
        return create_app(settings, use_active_artifacts=target.artifact is None, is_replica=False)
    except (ArtifactError, ModelUnusable) as error:
        fail(f"the artifact cannot be used: {error}")
    except (StoreUnavailable, ValueError) as error:
        fail(f"the reference database cannot be used: {error}")
