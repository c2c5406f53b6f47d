"""``GET /docs``: Swagger UI out of the package `swagger-ui-py`; the page may load nothing from anywhere else."""

from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


def _static_files() -> Path:
    package = find_spec("swagger_ui")  # found, not imported: its files are all we need
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "static"


# Relative links, so that the page also works behind a proxy that adds a path prefix.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fingerpost</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/files/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/files/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true
});
"""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


async def _page(request: Request) -> Response:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


async def _start(request: Request) -> Response:
    return Response(_START, media_type="text/javascript")


def docs_routes() -> list[Route | Mount]:
    return [
        Route("/docs", _page),
        Route("/docs/start.js", _start),
        Mount("/docs/files", StaticFiles(directory=_static_files())),
    ]
