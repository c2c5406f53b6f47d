"""What an operator changes in the browser: files uploaded, fingerprints deleted by drawing an area."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from reference_db import Cell, Fingerprints
from tests.service.browser import Page
from tests.service.console.conftest import Opened
from tests.service.console.surveys import as_file, send

YARD = "yard"
Surveys = tuple[Cell, Fingerprints, Fingerprints]


@pytest.fixture
def yard(operator: httpx.Client, surveys: Surveys) -> Iterator[str]:
    """A cell of its own, of every twentieth fingerprint of the survey."""
    cell, first, _ = surveys
    created = send(operator, "PUT", f"/cells/{YARD}", every(20, first), named(cell, YARD), force="true")
    assert created.status_code == 201, created.text
    yield YARD
    operator.delete(f"/cells/{YARD}", params={"force": "true"}).raise_for_status()


@pytest.fixture
def page(yard: str, opened: Opened) -> Page:  # in this order: the page is judged before its cell goes
    page = opened(f"#{yard}")
    page.says("#name", yard)
    page.until(lambda: re.search("[0-9]+ located|not served|unknown", page.text("#errors-status")), "all is loaded")
    return page


def every(step: int, some: Fingerprints, first: int = 0) -> Fingerprints:
    rows = slice(first, None, step)
    return Fingerprints(some.csi[rows], some.positions[rows], some.times[rows], some.sigmas[rows])


def named(cell: Cell, name: str) -> Cell:
    return cell.model_copy(update={"cell_id": name})


def shown(client: httpx.Client, cell: str = YARD) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/cells/{cell}").raise_for_status().json()
    return answer


def check(page: Page, file: Path) -> None:
    page["#upload-file"].send_keys(str(file))
    page.click("#upload-check")
    page.until(lambda: page.text("#upload-report").startswith("The survey can"), "the report is there")


def test_a_file_is_checked_before_it_is_appended(
    page: Page, operator: httpx.Client, surveys: Surveys, tmp_path: Path
) -> None:
    before = shown(operator)
    more = every(20, surveys[1], first=1)
    (tmp_path / "more.npz").write_bytes(as_file(more, None))
    page.click("#upload-open")
    assert not page["#upload-check"].is_enabled()  # no file is chosen
    check(page, tmp_path / "more.npz")
    report = page.text("#upload-report")
    assert report.startswith("The survey can be published.")
    assert f"fingerprints\n{len(more.positions)}\n" in report
    assert "32 antennas × 32 subcarriers" in report
    assert shown(operator)["version"] == before["version"]  # nothing was published
    page["#upload-author"].send_keys("Hedy")
    page["#upload-note"].send_keys("second walk")
    page.click("#upload-publish")
    page.says("#versions li.current", "Hedy: second walk")
    assert not page["#upload"].is_displayed()
    assert shown(operator)["fingerprints"] == before["fingerprints"] + len(more.positions)


def test_a_file_with_faults_cannot_be_published(page: Page, operator: httpx.Client, tmp_path: Path) -> None:
    before = shown(operator)
    (tmp_path / "broken.npz").write_bytes(b"no fingerprints")
    page.click("#upload-open")
    check(page, tmp_path / "broken.npz")
    page.says("#upload-report", "The survey cannot be published as it is.")
    page.says("#upload-report .finding", "Fault: ")
    assert not page["#upload-publish"].is_enabled()
    assert not page["#upload-force-row"].is_displayed()  # force does not help
    page.click("#upload-cancel")
    assert shown(operator)["version"] == before["version"]


def test_force_is_offered_where_it_overrides_the_faults(page: Page, tmp_path: Path, yard: str) -> None:
    fault = {"severity": "fault", "what": "the CSI may be conjugated", "advice": "look", "overridable": True}
    report = {"cellId": yard, "version": "1-ab", "fingerprints": 3, "findings": [fault], "wouldPublish": False}
    page.answers(f"cells/{yard}/fingerprints?dryRun=true", report)
    (tmp_path / "file.npz").write_bytes(b"-")
    page.click("#upload-open")
    check(page, tmp_path / "file.npz")
    page.says("#upload-report", "Fault: the CSI may be conjugated; look")
    assert not page["#upload-publish"].is_enabled()
    page.click("#upload-force")
    assert page["#upload-publish"].is_enabled()
    page.click("#upload-replace")  # another change, which was not checked
    assert not page["#upload-publish"].is_enabled()
    assert page.text("#upload-report") == ""


def test_a_change_since_the_check_is_not_published_over(
    page: Page, operator: httpx.Client, surveys: Surveys, tmp_path: Path
) -> None:
    (tmp_path / "more.npz").write_bytes(as_file(every(20, surveys[1], first=2), None))
    page.click("#upload-open")
    check(page, tmp_path / "more.npz")
    changed = operator.put(f"/cells/{YARD}/retention", json={"maxAgeS": 1e9}).raise_for_status().json()["version"]
    page.click("#upload-publish")
    page.says("#upload-problem", "Another operator has changed the cell since the check. Check again.")
    assert not page["#upload-publish"].is_enabled()
    assert shown(operator)["version"] == changed


@pytest.fixture
def plaza(operator: httpx.Client) -> Iterator[str]:
    """The name of a cell that a test makes."""
    yield "plaza"
    operator.delete("/cells/plaza", params={"force": "true"}).raise_for_status()


def test_a_new_cell_is_made_from_a_file(
    plaza: str, opened: Opened, operator: httpx.Client, surveys: Surveys, tmp_path: Path
) -> None:
    cell, first, _ = surveys
    (tmp_path / "new.npz").write_bytes(as_file(every(20, first), named(cell, plaza)))
    page = opened("")
    page.click("#new-cell")
    assert not page["#upload-kinds"].is_displayed()  # there is nothing to append to
    page["#upload-name"].send_keys(plaza)
    check(page, tmp_path / "new.npz")
    page.click("#upload-publish")
    page.says("#name", plaza)
    assert shown(operator, plaza)["change"]["action"] == "created"


def drag(page: Page, start: tuple[int, int], by: tuple[int, int]) -> None:
    actions = ActionChains(page.driver, duration=20)
    actions.move_to_element_with_offset(page["#canvas"], *start).click_and_hold().move_by_offset(*by).release()
    actions.perform()


def test_fingerprints_in_a_drawn_rectangle_are_counted_and_then_deleted(page: Page, operator: httpx.Client) -> None:
    before = shown(operator)
    assert not page["#area-delete"].is_enabled()
    page.click("#area-rectangle")
    drag(page, (0, -60), (120, 120))
    found = re.match(r"([0-9]+) of ([0-9]+) fingerprints are inside", page.text("#area-status"))
    assert found, page.text("#area-status")
    inside, all_of_them = map(int, found.groups())
    assert 0 < inside < all_of_them == before["fingerprints"]
    page.click("#area-delete")
    page.says("#deletion-text", f"a version without {inside} of the {all_of_them} fingerprints")  # says the service
    assert shown(operator)["version"] == before["version"]
    page["#deletion-note"].send_keys("a new building")
    page.click("#deletion-confirm")
    page.says("#versions li.current", "a new building")
    page.says("#area-status", f"0 of {all_of_them - inside} fingerprints")
    assert shown(operator)["fingerprints"] == all_of_them - inside


def test_a_polygon_deletes_what_is_inside_and_nothing_beside(page: Page, operator: httpx.Client) -> None:
    page.click("#area-polygon")
    for x, y in ((-20, -80), (120, -80), (120, 80)):
        ActionChains(page.driver, duration=20).move_to_element_with_offset(page["#canvas"], x, y).click().perform()
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    inside = int(page.text("#area-status").split()[0])
    listed = operator.get(f"/cells/{YARD}/fingerprints").json()["fingerprints"]
    assert 0 < inside < len(listed)
    page.click("#area-delete")
    page.says("#deletion-text", f"a version without {inside} of")
    page.click("#deletion-confirm")
    page.says("#versions li.current", f"−{inside}")


def test_the_edges_of_an_area_can_be_typed_and_a_survey_beyond_them_is_told(
    page: Page, operator: httpx.Client, surveys: Surveys, tmp_path: Path
) -> None:
    positions = np.array(
        [[one["x"], one["y"]] for one in operator.get(f"/cells/{YARD}/fingerprints").json()["fingerprints"]]
    )
    middle = positions.mean(axis=0).round()
    west, south, east, north = *(middle - 10), *(middle + 10)
    for edge, value in {"west": west, "south": south, "east": east, "north": north}.items():
        page[f"#area-{edge}"].send_keys(f"{value:g}")
    inside = int((np.abs(positions - middle) <= 10).all(axis=1).sum())
    page.says("#area-status", f"{inside} of {len(positions)} fingerprints are inside")
    survey = every(20, surveys[1], first=3)
    (tmp_path / "survey.npz").write_bytes(as_file(survey, None))
    page.click("#area-append")
    check(page, tmp_path / "survey.npz")
    assert re.search(r"Outside your area: the survey reaches [0-9.]+ m west", page.text("#upload-report"))
    page.click("#upload-cancel")
    page.click("#area-clear")
    assert not page["#area-append"].is_enabled()


def test_a_place_is_inside_a_polygon_by_the_even_odd_rule(page: Page) -> None:
    script = """
        const done = arguments[0];
        const hollow = [[0, 0], [10, 0], [10, 10], [5, 2], [0, 10]];
        import("./console/assets/area.js").then(({ holds }) =>
            done([[1, 1], [9, 8], [5, 5], [11, 1], [5, 1]].map(([x, y]) => holds(hollow, x, y))));"""
    assert page.driver.execute_async_script(script) == [True, True, False, False, True]
