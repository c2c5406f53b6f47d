"""What the console is for people with a telephone, a keyboard, a dark room, or a screen reader."""

import httpx
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.service.browser import Page, colour_scheme, screen
from tests.service.console.conftest import Opened
from tests.service.console.networks import many_cells
from tests.service.console.surveys import CELL

SCREENS = [pytest.param(width, scheme, id=f"{width}-{scheme}") for width in (1280, 390) for scheme in ("light", "dark")]


KEYS = {
    "required": True,
    "keys": [{"id": "0" * 12, "name": "north", "scopes": ["locate"], "createdAt": "2026-01-01T00:00:00Z"}],
    "usesSince": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_no_fault(opened: Opened, operator: httpx.Client, width: int, scheme: str) -> None:
    """Contrast, names, roles: of every view with every kind of content, and of the dialogs."""
    page = opened("")
    with colour_scheme(page, scheme), screen(page, width, 844, mobile=width == 390):
        page.answers("cells", many_cells(30))
        page.says("#cells-states", "All 30")
        assert page.accessibility_faults() == []
        page.answers("console/settings", {"live": False})
        go(page, CELL, "#name")
        page.click("#compare")
        page.says("#diff", "added")
        assert page.accessibility_faults() == []
        page.click("#versions li:nth-child(2) .link.back")
        page.says("#rollback-diff", "fingerprints")
        assert page.accessibility_faults() == []
        page.click("#rollback-cancel")
        page.click("#upload-open")
        assert page.accessibility_faults() == []
        page.click("#upload-cancel")
        for edge, value in {"west": 20, "south": 10, "east": 60, "north": 40}.items():
            page[f"#area-{edge}"].send_keys(str(value))
        page.click("#area-delete")
        page.says("#deletion-text", "a version without")
        assert page.accessibility_faults() == []
        page.click("#deletion-cancel")
        page.answers("keys", KEYS)
        for view in ("traffic", "models", "keys"):
            go(page, f"/{view}", f"#view-{view} h1")
            assert page.accessibility_faults() == []


def test_on_a_telephone_nothing_is_too_wide_or_covers_something_else(opened: Opened) -> None:
    page = opened("")
    page.answers("cells", many_cells(30))
    page.says("#cells-states", "All 30")
    with screen(page, 390, 844, mobile=True):
        for address, selector in (
            ("/", "#cells-title"),
            (CELL, "#name"),
            ("/traffic", "#latency"),
            ("/models", "#models"),
            ("/keys", "#keys"),
        ):
            go(page, address, selector)
            assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390, address
            assert page.overlaps() == [], address
        go(page, CELL, "#name")
        page.until(lambda: page.colours(0.5, 0.2, 0.4, 0.4) > 100, "the whole cell is on the map")


def go(page: Page, address: str, selector: str) -> None:
    page.driver.execute_script("location.hash = arguments[0]", f"#{address}")
    page.until(lambda: page.text(selector), f"{selector} is shown")


def test_a_dialog_keeps_the_keyboard_and_gives_it_back(page: Page) -> None:
    focused = lambda: str(page.driver.switch_to.active_element.get_attribute("id"))  # noqa: E731
    page.driver.execute_script("document.getElementById('upload-open').focus()")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    visited = set()
    for _ in range(12):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        visited.add(focused())
    inside = {"upload-file", "upload-append", "upload-author", "upload-note", "upload-cancel"}
    assert inside <= visited
    assert visited - inside <= {"", "upload"}  # the browser's own controls come between the last and the first
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page["#upload"].is_displayed()
    assert focused() == "upload-open"
