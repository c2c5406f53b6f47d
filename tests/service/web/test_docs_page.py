"""The page `/docs` in a real browser, of a service that requires keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.service.browser import Page, chromium
from tests.service.running import tiny_service
from tests.service.serving import serving
from tests.service.tiny_service import added_key


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service and a key with the scope `read`."""
    folder = tmp_path_factory.mktemp("keyed")
    key = added_key(folder / "keys.json", ["read"])
    with serving(tiny_service(folder).model_copy(update={"keys_file": folder / "keys.json", "port": 0})) as url:
        yield url, key


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    driver = chromium(tmp_path / "profile")
    yield driver
    driver.quit()


def prefer(browser: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def test_the_page_asks_for_a_key_and_sends_it_with_its_own_requests(
    browser: webdriver.Chrome, keyed: tuple[str, str]
) -> None:
    url, key = keyed
    browser.get(f"{url}/docs")
    page = Page(browser)
    page.until(lambda: page["#key-form"].is_displayed(), "the page asks for a key")
    page["#key"].send_keys("fp_0123456789ab_wrong")
    page.click("#key-form button")
    page.says("#key-error", "key")
    page["#key"].clear()
    page["#key"].send_keys(key)
    page.click("#key-form button")
    page.says("#swagger-ui", "Locate one user")
    assert not page["#key-form"].is_displayed()
    page.click("#operations-models-listModels .opblock-summary-control")
    page.click("#operations-models-listModels .try-out__btn")
    page.click("#operations-models-listModels .execute")
    page.says("#operations-models-listModels .live-responses-table", '"models"')
    assert key not in browser.execute_script("return JSON.stringify([localStorage, sessionStorage, location.href])")


def test_the_page_follows_the_colour_scheme_of_the_system(browser: webdriver.Chrome, keyed: tuple[str, str]) -> None:
    def luminance() -> int:
        colour = "return getComputedStyle(document.documentElement).backgroundColor"
        filtered = "return getComputedStyle(document.getElementById('swagger-ui')).filter"
        assert ("invert" in browser.execute_script(filtered)) == (scheme == "dark")
        text: str = browser.execute_script(colour)
        numbers = [float(part) for part in text[text.index("(") + 1 : -1].split(",")]
        return 255 if len(numbers) == 4 and numbers[3] == 0 else int(sum(numbers[:3]) / 3)

    browser.get(f"{keyed[0]}/docs")
    for scheme, dark in (("dark", True), ("light", False)):
        prefer(browser, scheme)
        assert (luminance() < 64) == dark
