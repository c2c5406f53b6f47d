"""`GET /console`: the operators' page. It loads nothing from other hosts, and never treats data as markup."""

import os
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_ASSETS = Path(__file__).parent / "assets"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",  # the browser asks each time, so that a page never mixes two releases
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Assets(StaticFiles):
    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


router = APIRouter(include_in_schema=False)


@router.get("/")
async def redirect_to_console() -> Response:
    """A relative redirect, so that it also works behind a proxy that adds a path prefix."""
    return RedirectResponse("console")


@router.get("/console")
async def show_console() -> Response:
    return FileResponse(_ASSETS / "index.html", headers=_HEADERS)


@router.get("/console/settings")
async def show_console_settings(request: Request) -> dict[str, bool]:
    """What the page needs to know of the settings: `live`, whether operators may watch users."""
    return {"live": request.app.state.settings.console_live}


def mount_console_assets(app: FastAPI) -> None:
    app.mount("/console/assets", _Assets(directory=_ASSETS))
