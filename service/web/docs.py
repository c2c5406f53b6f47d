"""`GET /docs`: Swagger UI from the package `swagger-ui-py`. The page loads nothing from another host.

The page itself is public. Where keys are required the page asks for one and sends it with every request.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_PAGE = Path(__file__).parent / "docs_page"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_docs() -> Response:
    return FileResponse(_PAGE / "index.html", headers=_HEADERS)


@router.get("/docs/{name}")
async def load_docs_file(name: str) -> Response:
    """The script and the style sheet of the page."""
    if name not in ("docs.js", "docs.css"):
        raise HTTPException(404)
    return FileResponse(_PAGE / name, headers=_HEADERS)


def mount_swagger_ui(app: FastAPI) -> None:
    """Serves the files of Swagger UI below `/docs/files`. The package is found, not imported."""
    package = find_spec("swagger_ui")
    assert package is not None
    assert package.origin is not None
    app.mount("/docs/files", StaticFiles(directory=Path(package.origin).parent / "static"))
