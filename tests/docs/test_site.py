"""The documentation site: built strictly, complete, and without anything from another host."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.service.browser import Page, chromium

pytest.importorskip("material", reason="mkdocs-material is not installed: extra docs")

# Where each element names a thing that the browser loads by itself.
_LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "use": ("href",),
}
_NOT_LOADED = {"canonical", "prev", "next", "alternate"}  # relations of `link`
_IN_CSS = re.compile(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^)'\"\s]+)")
_OUTSIDE = re.compile(r"^(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


class _Loads(HTMLParser):
    """What a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.classes |= set(named.get("class", "").split())
        self.found += _IN_CSS.findall(named.get("style", ""))
        if tag == "link" and set(named.get("rel", "").split()) <= _NOT_LOADED:
            return
        for name in _LOADED.get(tag, ()):
            self.found += [part.split()[0] for part in named.get(name, "").split(",") if part.strip()]


def _pages(site: Path) -> Iterator[tuple[str, _Loads]]:
    for path in sorted(site.rglob("*.html")):
        text, page = path.read_text(), _Loads()
        page.feed(text)
        page.found += _IN_CSS.findall(text)
        yield str(path.relative_to(site)), page


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = dict(_pages(site))
    assert "index.html" in pages
    assert {name: page.found for name, page in pages.items() if any(map(_OUTSIDE.match, page.found))} == {}


def test_every_page_loads_a_style_and_a_script_of_its_own_site(site: Path) -> None:
    for name, page in _pages(site):
        assert any(one.endswith(".css") for one in page.found), name
        assert any(one.endswith(".js") for one in page.found), name


def test_no_style_sheet_loads_anything_from_another_host(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    assert [found for sheet in sheets for found in _IN_CSS.findall(sheet.read_text())] == []


def test_nothing_makes_the_themes_script_ask_another_host(site: Path) -> None:
    """It fetches mermaid for diagrams, and a repository's figures from its host."""
    assert [name for name, page in _pages(site) if page.classes & {"mermaid", "md-source"}] == []


def test_the_palette_follows_the_system(site: Path) -> None:
    text = (site / "index.html").read_text()
    for media in ("(prefers-color-scheme)", "(prefers-color-scheme: light)", "(prefers-color-scheme: dark)"):
        assert f'data-md-color-media="{media}"' in text


def test_every_table_of_the_reference_is_written(site: Path) -> None:
    for name in ("settings", "causes", "metrics", "command-line", "fields", "artifact"):
        text = (site / "reference" / f"{name}.html").read_text()
        assert "<!-- table:" not in text
        assert "<table>" in text


def test_the_site_can_be_searched_from_files(site: Path, tmp_path: Path) -> None:
    driver = chromium(tmp_path)
    try:
        page = Page(driver)
        driver.get((site / "index.html").as_uri())
        driver.execute_script("document.querySelector('#__search').click()")
        page["input[name=query]"].send_keys("rollback")
        found = page.until(
            lambda: driver.find_elements("css selector", ".md-search-result__link"), "the search finds pages"
        )
        assert any("roll-back" in (one.get_attribute("href") or "") for one in found)
        asked = driver.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert [name for name in asked if not name.startswith("file:")] == []
    finally:
        driver.quit()
