"""The operators' page in a real browser: Chromium without a window, driven as a person would.

``FINGERPOST_CONSOLE_PICTURES=docs pytest tests/service/test_console.py`` keeps the README's picture.
"""

import io
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
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
from tests.service.browser import PATIENCE_S, Page, chromium, colour_scheme, screen
from tests.service.serving import serving

CELL = "florence-0000"
SMALL = "north-gate"
DATA = Path(__file__).parents[2] / "benchmarks" / "data"
DAY = 86_400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of its own, that begins without cells."""
    settings = Settings(
        port=0,
        database_directory=tmp_path_factory.mktemp("database"),
        lwlm_artifact_directory=None,
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
    page.says("#live-status", "(median), by mateformer (5).")
    for stage in ("decode", "queue", "retrieve", "frame", "infer", "encode", "/locate"):
        page.says("#latency", stage)
    page.until(
        lambda: re.fullmatch(r"[0-9.]+ (µs|ms|s)", page.text("#latency .whole .p99")), "how long it takes is said"
    )
    module = "import('/console/assets/latency.js').then((module) => arguments[0](module.stageName('cues')))"
    assert page.driver.execute_async_script(module) == "path features"
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


def test_on_a_telephone_nothing_is_too_wide_or_covers_something_else(page: Page) -> None:
    page.answers("cells", many_cells(30))
    page.says("#cells-states", "All 30")
    with screen(page, 390, 844, mobile=True):
        assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
        assert page.overlaps() == []
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
    with screen(page, 1400, 1080):
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


def many_cells(number: int) -> dict[str, Any]:
    """`GET /cells` of a large network: each cell is worse than the one before, and some cannot be served."""
    good = {
        "version": "1-ab12cd34ef56",
        "fingerprints": 2000,
        "createdAt": "2026-01-01T00:00:00Z",
        "models": ["mateformer"],
    }
    cells: list[dict[str, Any]] = [
        good
        | {"cellId": f"gnb-{i:03}", "accuracy": {"median": i / 200, "p95": i / 100}, "newestMeasured": days_ago(i % 80)}
        for i in range(number - 7)
    ]
    no_model = good | {"models": []}
    small = {"cause": "CELL_TOO_SMALL", "detail": "the cell has 10 fingerprints, it needs 19"}
    other_array = {
        "cause": "CELL_NOT_SERVED_BY_ARTIFACT",
        "detail": "the cell's CSI is 8 x 32, the artifact expects 32 x 32",
    }
    cells += [
        good | {"cellId": "old", "newestMeasured": days_ago(300)},
        no_model | {"cellId": "ten", "fingerprints": 10, "notServed": small},
        no_model | {"cellId": "other-array", "notServed": other_array},
        good | {"cellId": "behind", "refused": "the cell has 5 fingerprints, it needs 19"},
    ]
    faults = [
        {"cellId": "broken", "cause": "CELL_UNREADABLE", "detail": "manifest 7 is damaged"},
        {"cellId": "far", "cause": "STORE_UNAVAILABLE", "detail": "the reference database cannot be reached"},
        {"cellId": "torn", "cause": "CELL_UNREADABLE", "detail": "a segment is damaged"},
    ]
    cells.append(good | {"cellId": "torn"})
    return {"cells": cells, "unreadable": ["broken", "far"], "faults": faults}


def days_ago(days: float) -> str:
    return datetime.fromtimestamp(time.time() - days * DAY - 1, UTC).isoformat()


def listed(page: Page) -> list[list[str]]:
    """The rows of the overview: name, state, error, fingerprints, age, models."""
    script = """
        const rows = [...document.querySelectorAll("#cells-rows tr")];
        return rows.map(({ cells }) => [...cells].map((one) => one.innerText));"""
    return list(page.driver.execute_script(script))


def test_the_overview_has_the_cells_of_the_service(page: Page, operator: httpx.Client) -> None:
    operator.get(f"/cells/{CELL}/errors").raise_for_status()
    small, (name, state, error, fingerprints, age, models) = listed(page)
    assert small[:2] == [SMALL, "too small\nthe cell has 10 fingerprints, it needs 19"]
    assert (name, state, fingerprints, models) == (CELL, "served", "2,000", "mateformer")
    assert re.fullmatch(r"0\.[0-9]{2} m", error)
    assert re.fullmatch(r"[0-9] d ago", age)
    page.says("#facts", "located by\nmateformer")
    page.says("#models", "mateformer")
    page.says("#models li:first-child", "active")


def test_a_cell_without_fingerprints_names_the_base_station_as_its_model(page: Page, operator: httpx.Client) -> None:
    cells: dict[str, Any] = operator.get("/cells").json()
    without = [one | {"models": ["lwlm"]} if one["cellId"] == CELL else one for one in cells["cells"]]
    page.answers("cells", cells | {"cells": without})
    page.until(lambda: [row[5] for row in listed(page) if row[0] == CELL] == ["lwlm"], "the overview names lwlm")
    for cell in (SMALL, CELL):  # a cell's facts are drawn when it is chosen
        page.driver.execute_script("location.hash = arguments[0]", cell)
        page.says("#facts", "located by")
    page.says("#facts", "located by\nlwlm (the base station alone)")


def test_the_overview_of_500_cells_shows_first_what_needs_attention(page: Page) -> None:
    page.answers("cells", many_cells(500))
    page.says("#cells-states", "All 500")
    rows = listed(page)
    assert len(rows) == 500
    assert [row[:2] for row in rows[:4]] == [
        ["broken", "damaged\nmanifest 7 is damaged"],
        ["torn", "damaged\na segment is damaged"],
        ["far", "unreachable\nthe reference database cannot be reached"],
        ["other-array", "not served\nthe cell's CSI is 8 x 32, the artifact expects 32 x 32"],
    ]
    assert [row[0] for row in rows[4:8]] == ["ten", "behind", "old", "gnb-492"]
    assert rows[7][2] == "4.9 m"
    for state in ("2 damaged", "1 unreachable", "1 not served", "1 too small", "1 refused", "1 stale", "493 served"):
        assert state in page.text("#cells-states")


def test_the_overview_is_sorted_and_narrowed_as_the_operator_asks(page: Page) -> None:
    page.answers("cells", many_cells(500))
    page.says("#cells-states", "All 500")

    def first_after(header: str) -> str:
        page.click("#cells-head button", header)
        return listed(page)[0][0]

    assert first_after("Error") == "gnb-492"
    assert first_after("Error") == "gnb-000"
    assert listed(page)[-1][2] == "–"  # unknown errors come last in both directions
    assert first_after("Last measured") == "old"
    assert first_after("Fingerprints") == "ten"
    assert first_after("Cell") == "behind"
    assert page["#cells-head [aria-sort=ascending]"].text.startswith("Cell")
    page.click("#cells-states button", "too small")
    assert [row[0] for row in listed(page)] == ["ten"]
    page.click("#cells-states button", "All")
    page["#cells-filter"].send_keys("NB-12")
    assert [row[0] for row in listed(page)] == [f"gnb-{i}" for i in range(120, 130)]
    page["#cells-filter"].send_keys("9999")
    page.says("#cells-none", "No cell")


def test_a_row_of_the_overview_opens_its_cell(page: Page) -> None:
    page.click("#cells-rows a", SMALL)
    page.says("#name", SMALL)
    finding = "Warning: the cell has 10 fingerprints, it needs 19; append fingerprints; users get no answer yet"
    page.says("#versions .finding", finding)
    page.says("#facts", "no model (the cell has 10 fingerprints, it needs 19)")
    assert page.text("#cells-rows [aria-current]") == SMALL
    assert not page["#compare-card"].is_displayed()  # it has one version
    page.click("#cells-rows a", CELL)
    page.says("#name", CELL)
    page.until(lambda: page["#compare-card"].is_displayed(), "this one has several")
    assert page["#compare"].is_enabled()
    page.driver.execute_script("before.value = after.value; before.dispatchEvent(new Event('change'))")
    assert not page["#compare"].is_enabled()  # a version does not differ from itself


def test_models_that_were_refused_are_shown_with_the_reason(page: Page, operator: httpx.Client) -> None:
    models = operator.get("/models").json()
    page.answers("models", models | {"unusable": [{"folder": "next", "reason": "artifact.json is missing"}]})
    page.says("#models li:last-child", "next")
    page.says("#models li:last-child", "artifact.json is missing")


def test_replicas_that_serve_another_model_than_the_activated_one_are_shown(page: Page, operator: httpx.Client) -> None:
    serving = [
        {"name": "a", "artifacts": {"mateformer": "1" * 64}},
        {"name": "b", "artifacts": {"mateformer": "2" * 64}},
        {"name": "c", "artifacts": {"mateformer": "2" * 64}, "problem": "no artifact has this digest"},
    ]
    told = {"activated": {"mateformer": "1" * 64}, "replicas": serving}
    page.answers("models", operator.get("/models").json() | told)
    page.says("#models", "serves another model")
    shown = page.text("#models").splitlines()
    assert shown[-6:] == [
        *("b", "serves another model", "It still prepares the activated model."),
        *("c", "serves another model", "no artifact has this digest"),
    ]


def test_live_estimates_that_the_service_forbids_cannot_be_switched_on(page: Page) -> None:
    assert page["#watch"].is_enabled()
    page.answers("console/settings", {"live": False})
    page.says("#live-status", "set FINGERPOST_CONSOLE_LIVE=true")
    assert not page["#watch"].is_enabled()


def test_live_estimates_that_the_key_forbids_are_switched_off_with_the_reason(page: Page) -> None:
    forbid = """
        const real = window.fetch;
        const problem = { title: "Forbidden", detail: "this key lacks the scope operate" };
        window.fetch = (asked, options) => asked.includes("/live")
            ? Promise.resolve(new Response(JSON.stringify(problem), { status: 403 })) : real(asked, options);"""
    page.driver.execute_script(forbid)
    page.click("#watch")
    page.says("#live-status", "this key lacks the scope operate")
    assert not page["#watch"].is_enabled()


def test_errors_have_the_same_colours_on_every_map(page: Page) -> None:
    script = """
        const done = arguments[0];
        import("./console/assets/heat.js").then(({ shareOf }) => done([0, 0.05, 0.5, 5, 80].map(shareOf)));"""
    assert page.driver.execute_async_script(script) == pytest.approx([0, 0, 0.5, 1, 1])
    legend = page["label:has(#layer-errors)"].text
    assert re.sub(r"\s+", " ", legend) == "Leave-one-out error 0.05 0.5 5 m"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_fault(page: Page, scheme: str, width: int) -> None:
    """Contrast, names, roles: of the page with every kind of cell, of a difference, and of the dialog."""
    with colour_scheme(page, scheme), screen(page, width, 844, mobile=width == 390):
        page.answers("cells", many_cells(30))
        page.says("#cells-states", "All 30")
        page.answers("console/settings", {"live": False})
        page.click("#compare")
        page.says("#diff", "added")
        assert page.accessibility_faults() == []
        page.click("#versions li:nth-child(2) .link", "Roll back")
        page.says("#rollback-title", "back to version")
        assert page.accessibility_faults() == []
        page.click("#rollback-cancel")


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("FINGERPOST_CONSOLE_PICTURES"):
        page.driver.save_screenshot(str(Path(folder) / name))
