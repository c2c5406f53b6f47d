"""The pictures of the console in the documentation.

Each walk leads a browser to a view that a page of the documentation shows. `make screenshots` takes the pictures anew,
from a service with the shipped model.
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from fingerpost import build_locate_body
from reference_db import Fingerprints, read_fingerprint_file
from service.settings import Settings
from tests.service.browser import PATIENCE_S, Page, colour_scheme, screen
from tests.service.console.conftest import Opened
from tests.service.console.surveys import CELL, DATA, DAY, SMALL, read_surveys, send
from tests.service.serving import serving

DOCS = Path(__file__).parents[3] / "docs"
FOLDER = os.environ.get("FINGERPOST_CONSOLE_PICTURES")
WIDTH = 1280
HEIGHTS = {"console-cells.png": 320}
HEIGHT = 860  # of all others
MOST_BYTES = 150_000
COLOURS = 256

Walk = Callable[[Page, httpx.Client], None]


def show_cells(page: Page, operator: httpx.Client) -> None:
    page.driver.execute_script("location.hash = '/'")
    page.says("#cells-rows", SMALL)


def show_cell(page: Page, operator: httpx.Client) -> None:
    page.driver.execute_script("location.hash = arguments[0]", CELL)
    page.says("#errors-status", "200 located")
    page.click("#watch")
    page.says("#live-status", "No user was")
    _, users = read_fingerprint_file(DATA / f"{CELL}-users.safetensors")
    walk = walked(users.positions)
    for i, row in enumerate([*walk, *range(60, 68)]):
        track = {"trackId": "a walk"} if i < len(walk) else {}
        operator.post("/locate", json=build_locate_body(CELL, users.csi[row], None) | track).raise_for_status()
    page.says("#live-status", f"{len(walk) + 8} located in the last minute")


def walked(positions: np.ndarray) -> list[int]:
    """Rows of users who lie one beside the other, as somebody who walks does."""
    rows = [int(np.hypot(*(positions - (35, 20)).T).argmin())]
    for _ in range(8):
        ahead = np.hypot(*(positions - (positions[rows[-1]] + (5.0, 2.5))).T)
        ahead[rows] = np.inf
        rows.append(int(ahead.argmin()))
    return rows


def show_upload(page: Page, operator: httpx.Client) -> None:
    page.driver.execute_script("location.hash = arguments[0]", CELL)
    page.says("#errors-status", "200 located")
    page.click("#upload-open")
    page["#upload-file"].send_keys(str(DATA / f"{CELL}-users.safetensors"))
    page["#upload-author"].send_keys("Ada")
    page["#upload-note"].send_keys("second drive")
    page.click("#upload-check")
    page.says("#upload-report", "bearings agree")


def show_area(page: Page, operator: httpx.Client) -> None:
    page.driver.execute_script("location.hash = arguments[0]", CELL)
    page.says("#errors-status", "200 located")
    page.click("#area-polygon")
    for x, y in ((-90, -190), (60, -230), (110, -140), (-60, -100)):
        ActionChains(page.driver, duration=20).move_to_element_with_offset(page["#canvas"], x, y).click().perform()
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.click("#area-delete")
    page.says("#deletion-text", "a version without")


def show_traffic(page: Page, operator: httpx.Client) -> None:
    page.driver.execute_script("location.hash = '/traffic'")
    page.says("#answers", "last minute")
    _, users = read_fingerprint_file(DATA / f"{CELL}-users.safetensors")
    noise = np.random.default_rng(0).normal(size=(2, *users.csi[0].shape)) * np.abs(users.csi[0]).mean()
    end = time.monotonic() + (45 if FOLDER else 0)
    for row in range(10_000):
        csi = noise[0] + 1j * noise[1] if row % 7 == 0 else users.csi[row % len(users.csi)]
        operator.post("/locate", json=build_locate_body(CELL, csi.astype(np.complex64), None))
        if row >= 9 and time.monotonic() > end:
            break
    page.until(lambda: "CSI_" in page.text("#answers"), "users were refused")


WALKS: dict[str, Walk] = {
    "console-cells.png": show_cells,
    "console.png": show_cell,
    "console-upload.png": show_upload,
    "console-area.png": show_area,
    "console-traffic.png": show_traffic,
}


@pytest.fixture(scope="module")
def real_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the shipped model and four cells, for pictures."""
    settings = Settings(
        port=0,
        database_directory=tmp_path_factory.mktemp("database"),
        inference_threads=1,
        calibration_samples=100,
        console_live=True,
        cell_series=10,
    )
    with serving(settings) as url, httpx.Client(base_url=url, timeout=5 * PATIENCE_S) as client:
        cell, first, second = read_surveys()
        send(client, "PUT", f"/cells/{CELL}", first, cell, author="Ada", note="first survey, RTK rover")
        path = f"/cells/{CELL}/fingerprints"
        send(client, "POST", path, second, None, author="Grace", note="new kiosks, north-east corner")
        few = Fingerprints(first.csi[:10], first.positions[:10], first.times[:10], first.sigmas[:10])
        send(client, "PUT", f"/cells/{SMALL}", few, cell.model_copy(update={"cell_id": SMALL}), force="true")
        for name, days in (("florence-0001", 200.0), ("florence-nlos-0000", 20.0)):
            other, survey = read_fingerprint_file(DATA / f"{name}-references.safetensors")
            times = np.full(len(survey.positions), time.time() - days * DAY)
            dated = Fingerprints(survey.csi, survey.positions, times, survey.sigmas)
            send(client, "PUT", f"/cells/{name}", dated, other, author="Ada").raise_for_status()
        client.get(f"/cells/{CELL}/errors").raise_for_status()
        yield url


@pytest.mark.parametrize("name", WALKS)
def test_each_picture_can_be_taken(opened: Opened, operator: httpx.Client, name: str) -> None:
    page = opened("")
    with screen(page, WIDTH, HEIGHTS.get(name, HEIGHT)):
        WALKS[name](page, operator)


@pytest.mark.skipif(FOLDER is None, reason="FINGERPOST_CONSOLE_PICTURES names no folder for the pictures")
@pytest.mark.parametrize("name", WALKS)
def test_take_the_picture(browser: webdriver.Chrome, real_url: str, name: str) -> None:
    assert FOLDER is not None
    page = Page(browser)
    browser.get(f"{real_url}/console")
    with (
        colour_scheme(page, "light"),
        screen(page, WIDTH, HEIGHTS.get(name, HEIGHT)),
        httpx.Client(base_url=real_url, timeout=PATIENCE_S) as client,
    ):
        WALKS[name](page, client)
        picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(Path(FOLDER) / name, optimize=True)


@pytest.mark.parametrize("name", WALKS)
def test_the_documentation_shows_each_picture_as_it_is_taken(name: str) -> None:
    file = DOCS / name
    assert 10_000 < file.stat().st_size < MOST_BYTES
    with Image.open(file) as picture:
        assert picture.size == (WIDTH, HEIGHTS.get(name, HEIGHT))
    assert f"(../{name})" in (DOCS / "run" / "console.md").read_text()


def test_the_documentation_has_no_other_pictures_of_the_console() -> None:
    assert {file.name for file in DOCS.glob("console*.png")} == set(WALKS)
