"""The view of one cell."""

import re
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from fingerpost import build_locate_body
from reference_db import read_fingerprint_file
from tests.service.browser import Page
from tests.service.console.conftest import Opened
from tests.service.console.surveys import CELL, DATA, SMALL


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
    page.says("#rollback-diff .added", "+5 added")  # what the rollback would change, before it is confirmed
    page.says("#rollback-diff", "→ 2,000 fingerprints")
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


def test_the_stage_of_a_change_is_shown_while_it_runs(page: Page, operator: httpx.Client) -> None:
    page.answers(f"cells/{CELL}/change", {"cellId": CELL, "stage": "calibrating"})
    page.driver.execute_script(_NEVER_ANSWERED, "/rollback?")
    before = operator.get(f"/cells/{CELL}").json()["version"]
    page.click("#versions li:nth-child(2) .link", "Roll back")
    page.click("#rollback-confirm")
    page.says("#rollback-stage", "Rolling back: calibrating the ellipses …")
    page.driver.execute_script("window.refuseIt()")
    page.says("#rollback-problem", "The service does not answer")
    assert not page["#rollback-stage"].is_displayed()
    assert operator.get(f"/cells/{CELL}").json()["version"] == before


# A request of the page for an address with these words waits until the test refuses it.
_NEVER_ANSWERED = """
    const [words, real] = [arguments[0], window.fetch];
    window.fetch = (asked, options) => asked.includes(words)
        ? new Promise((_, reject) => { window.refuseIt = () => reject(new TypeError("no network")); })
        : real(asked, options);"""


def test_the_labels_of_a_dialog_keep_clear_of_its_fields_in_large_print(page: Page) -> None:
    page.click("#versions li:nth-child(2) .link", "Roll back")
    page.driver.execute_script("document.body.style.fontSize = '22px'")
    script = """
        return ["author", "note"].map((id) => {
            const range = document.createRange();
            range.selectNode(document.getElementById(id).previousSibling);
            return document.getElementById(id).getBoundingClientRect().left - range.getBoundingClientRect().right;
        });"""
    assert all(gap > 0 for gap in page.driver.execute_script(script))


def test_a_stale_cell_says_why(page: Page, operator: httpx.Client) -> None:
    (row,) = (one for one in operator.get("/cells").json()["cells"] if one["cellId"] == CELL)
    page.answers("cells", {"cells": [{**row, "newestMeasured": "2020-01-01T00:00:00Z"}]})
    page.says("#cell-state", "stale")
    page.says("#cell-reasons", "The newest fingerprint is older than 90 days. It was measured")


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


def test_a_cell_says_how_many_surveyed_truths_are_inside(page: Page, operator: httpx.Client) -> None:
    _, users = read_fingerprint_file(DATA / f"{CELL}-users.safetensors")
    rows = zip(users.csi[:5], users.positions[:5].tolist(), strict=True)
    items = [{"csi": build_locate_body(CELL, csi)["csi"], "x": x, "y": y, "sigma": 0.02} for csi, (x, y) in rows]
    answer = operator.post(f"/cells/{CELL}/truths", json={"items": items}).raise_for_status().json()
    share = 100 * sum(one["score"]["inside"] for one in answer["results"]) / 5
    assert "truths" not in page.text("#facts")
    for cell in (SMALL, CELL):  # a cell's facts are drawn when it is chosen
        page.driver.execute_script("location.hash = arguments[0]", cell)
        page.says("#name", cell)
    page.says("#facts", f"truths\n{share:g} % of 5 inside, 95 % stated (undecided)")


def test_a_cell_without_fingerprints_names_the_base_station_as_its_model(page: Page, operator: httpx.Client) -> None:
    cells: dict[str, Any] = operator.get("/cells").json()
    without = [one | {"models": ["lwlm"]} if one["cellId"] == CELL else one for one in cells["cells"]]
    page.answers("cells", cells | {"cells": without})
    for cell in (SMALL, CELL):  # a cell's facts are drawn when it is chosen
        page.driver.execute_script("location.hash = arguments[0]", cell)
        page.says("#name", cell)
        page.says("#facts", "located by")
    page.says("#facts", "located by\nlwlm (the base station alone)")


def test_added_fingerprints_are_marked_on_the_map(page: Page) -> None:
    page.says("#errors-status", "200 located")
    page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    before = page.colours(0.6, 0.1, 0.25, 0.3)
    page.driver.execute_script("before.value = after.options[after.length - 1].value")  # the first version
    page.click("#compare")
    page.says("#diff .added", "added")
    page.until(lambda: page.colours(0.6, 0.1, 0.25, 0.3) > before, "rings are drawn")


def test_the_map_is_moved_and_zoomed_with_the_keyboard(page: Page) -> None:
    script = """
        const canvas = document.getElementById("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let i = 0; i < data.length; i += 4) sum = (31 * sum + data[i] + data[i + 3]) % 1000003;
        return sum;"""
    drawn = lambda: page.driver.execute_script(script)  # noqa: E731
    page.says("#errors-status", "200 located")
    page.driver.execute_script("canvas.focus()")
    keys = page.driver.switch_to.active_element
    seen = [drawn()]
    for key in ("+", Keys.ARROW_LEFT, "-"):
        keys.send_keys(key)
        page.until(lambda: drawn() not in seen, f"{key} changes the map")
        seen.append(drawn())
    keys.send_keys("0")
    page.until(lambda: drawn() == seen[0], "the whole cell is shown again")


def test_errors_have_the_same_colours_on_every_map(page: Page) -> None:
    script = """
        const done = arguments[0];
        import("./console/assets/heat.js").then(({ shareOf }) => done([0, 0.05, 0.5, 5, 80].map(shareOf)));"""
    assert page.driver.execute_async_script(script) == pytest.approx([0, 0, 0.5, 1, 1])
    legend = page["label:has(#layer-errors)"].text
    assert re.sub(r"\s+", " ", legend) == "Leave-one-out error 0.05 0.5 5 m"


def test_a_key_that_may_only_read_sees_everything_but_positions(page: Page) -> None:
    forbid = """
        const real = window.fetch;
        const problem = { title: "Forbidden", detail: "this key lacks the scope operate" };
        window.fetch = (asked, options) => asked.includes("/fingerprints")
            ? Promise.resolve(new Response(JSON.stringify(problem), { status: 403 })) : real(asked, options);"""
    page.driver.execute_script(forbid)
    go(page, SMALL)
    page.says("#facts", "fingerprints\n10 (0 drawn)")
    page.says("#age-range", "for the scope operate only")
    assert not page["#trouble"].is_displayed()


def test_errors_that_a_look_at_another_view_has_interrupted_go_on(page: Page) -> None:
    hang = """
        const real = window.fetch;
        let hung = false;
        window.fetch = (asked, { signal, ...options } = {}) => {
            if (hung || !asked.includes("/errors")) return real(asked, { signal, ...options });
            hung = true;
            const aborted = new DOMException("aborted", "AbortError");
            return new Promise((_, reject) => signal.addEventListener("abort", () => reject(aborted)));
        };"""
    go(page, SMALL)
    page.driver.execute_script(hang)
    go(page, CELL)
    page.says("#errors-status", "Locating 40")
    page.driver.execute_script("location.hash = '/traffic'")
    page.says("#answers", "last minute")
    go(page, CELL)
    page.says("#errors-status", "200 located")


def test_a_cell_that_does_not_exist_is_told_and_forgotten_on_the_way_on(opened: Opened) -> None:
    page = opened("#nowhere")
    page.says("#trouble", "no such cell")
    page.click("nav a", "Cells")
    page.until(lambda: not page["#trouble"].is_displayed(), "other views are not in trouble")


def go(page: Page, cell: str) -> None:
    page.driver.execute_script("location.hash = arguments[0]", cell)
    page.says("#name", cell)
