from pathlib import Path
from typing import get_args

import pytest
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.auth.keys import Scope
from service.auth.route_scopes import ACCESS, scope_needed
from tests.service.tiny_service import make_tiny_settings


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/health/live", None),
        ("GET", "/health/ready", None),
        ("POST", "/health/live", "operate"),
        ("GET", "/health/livelier", "operate"),
        ("GET", "/health/live/", "operate"),
        ("POST", "/locate", "locate"),
        ("POST", "/locate/batch", "locate"),
        ("POST", "/locate/trajectory", "locate"),
        ("POST", "/measure", "locate"),
        ("POST", "/measurestuff", "operate"),
        ("POST", "/locatestuff", "operate"),
        ("GET", "/cells", "read"),
        ("GET", "/cells/plane", "read"),
        ("HEAD", "/cells/plane", "read"),
        ("GET", "/cells/plane/versions/1/diff/2", "read"),
        ("GET", "/cells/plane/export", "operate"),
        ("GET", "/cells/plane/fingerprints", "operate"),
        ("GET", "/cells/plane/live", "operate"),
        ("GET", "/cells/plane/errors", "operate"),
        ("GET", "/cells/plane/truths", "read"),
        ("POST", "/cells/plane/truths", "operate"),
        ("GET", "/latency", "read"),
        ("GET", "/keys", "operate"),
        ("GET", "/console", None),
        ("GET", "/console/outlines/plane", "read"),
        ("GET", "/console/assets/service.js", None),
        ("POST", "/cells/plane/fingerprints", "operate"),
        ("POST", "/cells/plane/fingerprints/delete", "operate"),
        ("PUT", "/cells/plane", "operate"),
        ("DELETE", "/cells/plane", "operate"),
        ("POST", "/cells/plane/rollback", "operate"),
        ("GET", "/models", "read"),
        ("POST", "/models/one:activate", "operate"),
        ("GET", "/metrics", "read"),
        ("GET", "/docs", None),
        ("GET", "/docs/files/swagger-ui.css", None),
        ("GET", "/", None),
        ("GET", "/openapi.json", "read"),
        ("GET", "/nowhere", "operate"),
        ("GET", "/health/../cells/plane/export", "operate"),
        ("GET", "//cells/plane", "operate"),
        ("GET", "/a\nb", "operate"),
        ("GET", "", "operate"),
        ("BREW", "/cells", "operate"),
        ("OPTIONS", "*", "operate"),
        ("CONNECT", "example.org:80", "operate"),
    ],
)
def test_scope_that_a_request_needs(method: str, path: str, needed: Scope | None) -> None:
    assert scope_needed(method, path) == needed


def test_every_route_has_a_row_and_only_health_and_pages_need_no_key(tmp_path: Path) -> None:
    contexts = list(iter_route_contexts(create_app(make_tiny_settings(tmp_path)).routes))
    assert len(contexts) > 20
    for context in contexts:
        path, methods = context.path, context.methods or {"GET"}
        assert [row for row in ACCESS[:-1] if row.path.split("/")[1] == path.split("/")[1]], path
        needed = {scope_needed(method, path) for method in methods}
        page = path == "/" or path.startswith(("/health/", "/console", "/docs"))
        assert (None in needed) == (page and path != "/console/outlines/{cellId}"), path


def test_every_scope_opens_something() -> None:
    assert {row.reading for row in ACCESS} | {row.changing for row in ACCESS} == {None, *get_args(Scope)}
