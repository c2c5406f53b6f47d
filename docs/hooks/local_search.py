"""MkDocs hook: the search of pages that are read from files uses a script of this site, not one of another host."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

_THEMES = "https://unpkg.com/iframe-worker/shim"  # what the plugin `offline` has pages load
_OURS = "javascripts/file-worker.js"


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Names our script in place of the theme's."""
    return output.replace(_THEMES, posixpath.relpath(_OURS, posixpath.dirname(page.url) or "."))


def on_post_template(output: str, **_: Any) -> str:
    """The same in the page of unknown addresses, which a server gives at any address."""
    return output.replace(_THEMES, f"/{_OURS}")
