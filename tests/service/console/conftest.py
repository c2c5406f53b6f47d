"""One service and one browser for all tests of the console."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from selenium import webdriver

from reference_db import Cell, Fingerprints
from service.settings import Settings
from tests.service.browser import PATIENCE_S, Page, chromium
from tests.service.console.surveys import CELL, SMALL, read_surveys, send
from tests.service.serving import serving
from tests.service.tiny_artifact import write_tiny_artifact

Opened = Callable[[str], Page]


@pytest.fixture(scope="package")
def console_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of its own, that begins without cells. Its network takes no time, and knows little."""
    artifact = tmp_path_factory.mktemp("artifacts") / "middle"
    artifact.mkdir()
    write_tiny_artifact(artifact, tile_pitch=2.0, doubtful=False)
    settings = Settings(
        port=0,
        artifact_directory=artifact,
        database_directory=tmp_path_factory.mktemp("database"),
        lwlm_artifact_directory=None,
        inference_threads=1,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        console_live=True,
    )
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="package")
def operator(console_url: str) -> Iterator[httpx.Client]:
    """Another operator, who uses no browser."""
    with httpx.Client(base_url=console_url, timeout=2 * PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="package")
def surveys() -> tuple[Cell, Fingerprints, Fingerprints]:
    return read_surveys()


@pytest.fixture(scope="package")
def imported(operator: httpx.Client, surveys: tuple[Cell, Fingerprints, Fingerprints]) -> None:
    """Two versions: the first survey, then the second one beside it. And a cell that is too small to be served."""
    cell, first, second = surveys
    created = send(operator, "PUT", f"/cells/{CELL}", first, cell, author="Ada", note="first survey <b>RTK</b>")
    assert created.status_code == 201, created.text
    path = f"/cells/{CELL}/fingerprints"
    appended = send(operator, "POST", path, second, None, author="Grace", note="new kiosks, north-east corner")
    assert appended.status_code == 200, appended.text
    few = Fingerprints(first.csi[:10], first.positions[:10], first.times[:10], first.sigmas[:10])
    small = send(operator, "PUT", f"/cells/{SMALL}", few, cell.model_copy(update={"cell_id": SMALL}), force="true")
    assert small.status_code == 201, small.text
    operator.get(f"/cells/{CELL}/errors").raise_for_status()  # so that no page waits for them


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: webdriver.Chrome, console_url: str, imported: None) -> Iterator[Opened]:
    """Opens the console at an address such as `#/traffic`. Nothing may come from elsewhere or fail on the way."""

    def open_page(address: str) -> Page:
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(f"{console_url}/console{address}")
        return Page(browser)

    yield open_page
    asked: Any = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert all(address.startswith(console_url + "/") for address in asked), asked
    failed = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    expected = ("/nowhere", " 412 ")  # a cell that a test asks for in vain, and changes that others were quicker than
    refused = [one for one in failed if "Failed to load resource" in one and any(part in one for part in expected)]
    assert failed == refused


@pytest.fixture
def overview(opened: Opened) -> Page:
    """The console as it begins: all cells."""
    page = opened("")
    page.says("#cells-rows", CELL)
    return page


@pytest.fixture
def page(opened: Opened) -> Page:
    """The view of the cell."""
    page = opened(f"#{CELL}")
    page.says("#name", CELL)
    page.says("#errors-status", "located without GNSS")
    return page
