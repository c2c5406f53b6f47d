"""The operators' page in a real browser: Chromium without a window, driven as a person would.

``FINGERPOST_CONSOLE_PICTURES=docs pytest tests/service/test_console.py`` keeps the README's picture.
"""

import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

from fingerpost import build_locate_body
from reference_db import Cell, Fingerprints, read_fingerprint_file
from service.settings import Settings
from tests.service.browser import PATIENCE_S, Page, chromium, screen
from tests.service.serving import serving

CELL = "florence-0000"
DATA = Path(__file__).parents[2] / "benchmarks" / "data"
DAY = 86_400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of its own, that begins without cells."""
    settings = Settings(
        port=0,
        database_directory=tmp_path_factory.mktemp("database"),
        inference_threads=1,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        console_live=True,
    )
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="module")
def operator(url: str) -> Iterator[httpx.Client]:
    """Another operator, who uses no browser."""
    with httpx.Client(base_url=url, timeout=2 * PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def surveys() -> tuple[Cell, Fingerprints, Fingerprints]:
    """A whole cell, measured from west to east in two months, and its north-east measured again last week."""
    cell, all_of_it = read_fingerprint_file(DATA / f"{CELL}-references.safetensors")
    east, north = all_of_it.positions.T
    again = np.hypot(east - 74, north - 58) < 18
    share = ((east - east.min()) / np.ptp(east)).astype(np.float64)
    now = time.time()
    times = np.where(again, now - (4 - 2 * share) * DAY, now - (100 - 60 * share) * DAY)
    parts = [
        Fingerprints(all_of_it.csi[some], all_of_it.positions[some], times[some], all_of_it.sigmas[some])
        for some in (~again, again)
    ]
    return cell, parts[0], parts[1]


@pytest.fixture(scope="module")
def imported(operator: httpx.Client, surveys: tuple[Cell, Fingerprints, Fingerprints]) -> None:
    """Two versions: the first survey, then the second one beside it."""
    cell, first, second = surveys
    created = send(operator, "PUT", f"/cells/{CELL}", first, cell, author="Ada", note="first survey <b>RTK</b>")
    assert created.status_code == 201, created.text
    path = f"/cells/{CELL}/fingerprints"
    appended = send(operator, "POST", path, second, None, author="Grace", note="new kiosks, north-east corner")
    assert appended.status_code == 200, appended.text
    operator.get(f"/cells/{CELL}/errors").raise_for_status()  # so that no page waits for them


def send(
    client: httpx.Client, method: str, path: str, fingerprints: Fingerprints, cell: Cell | None, **query: str
) -> httpx.Response:
    file = io.BytesIO()
    described = {} if cell is None else {"cell": np.array(cell.model_dump_json())}
    np.savez(
        file,
        csi=fingerprints.csi,
        positions=fingerprints.positions,
        times=fingerprints.times,
        sigmas=fingerprints.sigmas,
        **described,
    )
    headers = {"Content-Type": "application/octet-stream"}
    return client.request(method, path, content=file.getvalue(), params=query, headers=headers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, url: str, imported: None) -> Iterator[Page]:
    """The console with the cell shown; nothing may come from elsewhere or fail on the way."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(f"{url}/console")
    page = Page(browser)
    page.says("#name", CELL)
    page.says("#errors-status", "located without GNSS")
    yield page
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert all(address.startswith(url + "/") for address in asked), asked
    failed = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("Failed to load resource" in message and " 412 " in message for message in failed), failed


def test_a_change_is_shown_compared_and_rolled_back(page: Page, operator: httpx.Client) -> None:
    number = int(page.version())
    assert "first survey <b>RTK</b>" in page.text("#versions")  # as it was written: no markup
    assert page.colours(0.3, 0.2, 0.5, 0.5) > 100

    ids = [one["id"] for one in operator.get(f"/cells/{CELL}/fingerprints?limit=5").json()["fingerprints"]]
    query = {"author": "Grace", "note": "scaffolding"}
    operator.post(f"/cells/{CELL}/fingerprints/delete", json={"ids": ids}, params=query).raise_for_status()
    page.until(lambda: int(page.version()) == number + 1, "the page hears of the new version by itself")
    page.click("#versions li:nth-child(2) .link", "Compare")
    page.says("#diff .removed", "−5 removed")
    page.says("#diff .added", "+0 added")

    page.click("#versions li:nth-child(2) .link", "Roll back")
    page.says("#rollback-title", f"back to version {number}?")
    page["#author"].send_keys("Hedy")
    page["#note"].send_keys("they were right")
    page.click("#rollback-confirm")
    page.until(lambda: int(page.version()) == number + 2, "the page shows what it has published")
    page.says("#versions li.current", "Hedy: they were right")
    assert not page["#rollback"].is_displayed()
    shown = operator.get(f"/cells/{CELL}").json()
    assert (shown["change"]["action"], shown["change"]["author"]) == ("rolled back", "Hedy")
    assert operator.get(f"/cells/{CELL}/versions/{number}/diff/{number + 2}").json()["added"]["count"] == 0


def test_a_rollback_that_others_were_quicker_than_changes_nothing(page: Page, operator: httpx.Client) -> None:
    page.click("#versions li:nth-child(2) .link", "Roll back")
    page.says("#rollback-title", "back to version")
    retention = {"maxAgeS": 1e9 + int(page.version())}
    changed = operator.put(f"/cells/{CELL}/retention", json=retention).raise_for_status().json()["version"]
    page.click("#rollback-confirm")
    page.says("#rollback-problem", f"Precondition Failed: the cell is at version {changed}")
    assert not page["#rollback-confirm"].is_enabled()
    page.click("#rollback-cancel")
    page.until(lambda: page.version() == changed.split("-")[0], "the page shows the other one's version")
    assert operator.get(f"/cells/{CELL}").json()["version"] == changed


def test_estimates_are_drawn_while_watched_and_then_gone(page: Page, operator: httpx.Client) -> None:
    watch(page)
    locate(operator, range(5))
    page.says("#live-status", "located in the last minute, 95 % within")
    for stage in ("decode", "queue", "retrieve", "frame", "infer", "encode", "/locate"):
        page.says("#latency", stage)
    page.until(
        lambda: re.fullmatch(r"[0-9.]+ (µs|ms|s)", page.text("#latency .whole .p99")), "how long it takes is said"
    )
    page.click("#watch")
    page.says("#live-status", "The service keeps no estimates while no page watches.")


def watch(page: Page) -> None:
    """From here on estimates are kept."""
    page.click("#watch")
    page.until(lambda: re.search(r"No user was|located in", page.text("#live-status")), "the page has asked once")


def locate(client: httpx.Client, rows: Any) -> None:
    _, users = read_fingerprint_file(DATA / f"{CELL}-users.safetensors")
    for row in rows:
        client.post("/locate", json=build_locate_body(CELL, users.csi[row], None)).raise_for_status()


def test_a_key_is_sent_and_kept_in_the_tab_only(page: Page) -> None:
    page["#key"].send_keys("open-sesame")
    page["#key"].send_keys("\t")
    assert page.driver.execute_script("return sessionStorage.getItem('fingerpost-key')") == "open-sesame"
    assert page.driver.execute_script("return localStorage.length + document.cookie.length") == 0
    sent = lambda: "Bearer open-sesame" in json.dumps(page.driver.get_log("performance"))  # noqa: E731
    page.until(sent, "the key goes with requests")
    page["#key"].clear()
    page["#key"].send_keys("\t")
    assert page.driver.execute_script("return sessionStorage.length") == 0


def test_nothing_is_wider_than_a_telephone(page: Page) -> None:
    with screen(page, 390, 844, mobile=True):
        assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
        page.until(lambda: page.colours(0.5, 0.2, 0.4, 0.4) > 100, "the whole cell is on the map")


def test_figures_read_as_people_write_them(page: Page) -> None:
    script = """
        const done = arguments[0];
        import("./console/assets/words.js").then(({ ago, duration, metres }) => done([
            ...[0.00024, 0.0021, 0.1234, 0.9996, 2.43].map(duration),
            ...[0.061, 2.5, 60.2, 1234, 1234567].map(metres), ...[0.2, 61, 7200, 8e6].map(ago)]));"""
    assert page.driver.execute_async_script(script) == [
        *("240 µs", "2.1 ms", "120 ms", "1000 ms", "2.4 s"),
        *("0.06 m", "2.5 m", "60 m", "1.23 km", "1230 km"),
        *("now", "1 min ago", "2 h ago", "3 mo ago"),
    ]


def test_a_fingerprint_says_what_it_is_where_the_pointer_is(page: Page) -> None:
    assert not page["#tip"].is_displayed()
    for away in range(0, 60, 5):  # the middle may lie between fingerprints
        ActionChains(page.driver).move_to_element_with_offset(page["#canvas"], away, away).perform()
        if page["#tip"].is_displayed():
            break
    assert re.match(r"[0-9a-f]{16}\n[0-9.]+ m E, [0-9.]+ m N, ±0.02 m\nmeasured [0-9]+ (d|mo) ago", page.text("#tip"))


def test_added_fingerprints_are_marked_on_the_map(page: Page, operator: httpx.Client) -> None:
    with screen(page, 1400, 930):
        watch(page)
        locate(operator, range(10, 22))
        page.until(lambda: int(page.text("#live-status").split()[0]) >= 12, "all of them are drawn")
        page.says("#errors-status", "200 located")
        page.says("#latency", "/locate")
        picture(page, "console.png")
        page.click("#watch")  # estimates fade, which changes colours
        page.says("#live-status", "The service keeps no estimates while no page watches.")
        page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        before = page.colours(0.6, 0.1, 0.25, 0.3)
        page.driver.execute_script("before.value = after.options[after.length - 1].value")  # the first version
        page.click("#compare")
        page.says("#diff .added", "added")
        page.until(lambda: page.colours(0.6, 0.1, 0.25, 0.3) > before, "rings are drawn")


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("FINGERPOST_CONSOLE_PICTURES"):
        page.driver.save_screenshot(str(Path(folder) / name))
