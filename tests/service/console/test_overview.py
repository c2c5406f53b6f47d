"""The view of all cells."""

import re

import httpx

from tests.service.browser import Page
from tests.service.console.networks import many_cells
from tests.service.console.surveys import CELL, SMALL


def listed(page: Page) -> list[list[str]]:
    """The rows of the overview: name, state, error, fingerprints, age, models, last change."""
    script = """
        const rows = [...document.querySelectorAll("#cells-rows tr")];
        return rows.map(({ cells }) => [...cells].map((one) => one.innerText));"""
    return list(page.driver.execute_script(script))


def test_the_root_leads_to_the_overview(overview: Page, console_url: str) -> None:
    overview.driver.get(f"{console_url}/")
    overview.says("#cells-rows", CELL)
    assert overview.driver.current_url == f"{console_url}/console"
    assert overview.driver.title == "Cells – Fingerpost"


def test_it_has_the_cells_of_the_service(overview: Page) -> None:
    small, (name, state, error, fingerprints, age, models, changed) = listed(overview)
    assert small[:2] == [SMALL, "too small\nthe cell has 10 fingerprints, it needs 19"]
    assert (name, state, fingerprints, models) == (CELL, "served", "2,000", "mateformer")
    assert re.fullmatch(r"[0-9.]+ m", error.strip())
    assert re.fullmatch(r"[0-9] d ago", age)
    assert re.fullmatch(r"now|[0-9]+ (s|min) ago", changed)


def test_of_500_cells_it_shows_first_what_needs_attention(overview: Page) -> None:
    overview.answers("cells", many_cells(500))
    overview.says("#cells-states", "All 500")
    rows = listed(overview)
    assert len(rows) == 500
    assert [row[:2] for row in rows[:4]] == [
        ["broken", "damaged\nmanifest 7 is damaged"],
        ["torn", "damaged\na segment is damaged"],
        ["far", "unreachable\nthe reference database cannot be reached"],
        ["other-array", "not served\nthe cell's CSI is 8 x 32, the artifact expects 32 x 32"],
    ]
    assert [row[0] for row in rows[4:10]] == ["ten", "behind", "boastful", "rebuilt", "old", "gnb-490"]
    assert rows[6][1] == "contradicted\nFewer surveyed truths lie inside the ellipses than stated."
    assert re.fullmatch(
        r"drifted\nstale\nThe CSI of users no longer fits the fingerprints; Coarse positions no longer fit the "
        r"estimates\. The array seems turned by 2\.1° clockwise\. "
        r"Since about 30 Nov 2026, [0-9:]+; a false alarm as strong comes at most once in 1,230,000 counted users\.",
        rows[7][1],
    )
    assert rows[9][2].strip() == "4.9 m"
    states = ("2 damaged", "1 unreachable", "1 not served", "1 too small", "1 refused", "1 contradicted", "1 drifted")
    for state in (*states, "2 stale", "491 served"):
        assert state in overview.text("#cells-states")


def test_it_is_sorted_and_narrowed_as_the_operator_asks(overview: Page) -> None:
    overview.answers("cells", many_cells(500))
    overview.says("#cells-states", "All 500")

    def first_after(header: str) -> str:
        overview.click("#cells-head button", header)
        return listed(overview)[0][0]

    assert first_after("Error") == "gnb-490"
    assert first_after("Error") == "gnb-000"
    assert listed(overview)[-1][2] == "–"  # unknown errors come last in both directions
    assert first_after("Last measured") == "old"
    assert first_after("Fingerprints") == "ten"
    assert first_after("Cell") == "behind"
    assert overview["#cells-head [aria-sort=ascending]"].text.startswith("Cell")
    overview.click("#cells-states button", "too small")
    assert [row[0] for row in listed(overview)] == ["ten"]
    overview.click("#cells-states button", "stale")
    assert [row[0] for row in listed(overview)] == ["old", "rebuilt"]  # one of them has drifted as well
    overview.click("#cells-states button", "All")
    overview["#cells-filter"].send_keys("NB-12")
    assert [row[0] for row in listed(overview)] == [f"gnb-{i}" for i in range(120, 130)]
    overview["#cells-filter"].send_keys("9999")
    overview.says("#cells-none", "No cell")


def test_a_row_opens_its_cell_and_the_way_back_leads_to_the_overview(overview: Page) -> None:
    overview.click("#cells-rows a", SMALL)
    overview.says("#name", SMALL)
    finding = "Warning: the cell has 10 fingerprints, it needs 19; append fingerprints; users get no answer yet"
    overview.says("#versions .finding", finding)
    overview.says("#facts", "no model (the cell has 10 fingerprints, it needs 19)")
    overview.says("#cell-state", "too small")
    assert not overview["#cells-rows"].is_displayed()
    assert overview.driver.switch_to.active_element.get_attribute("id") == "name"
    assert not overview["#compare-card"].is_displayed()  # it has one version
    overview.driver.back()
    overview.click("#cells-rows a", CELL)
    overview.says("#name", CELL)
    overview.until(lambda: overview["#compare-card"].is_displayed(), "this one has several")
    assert overview["#compare"].is_enabled()
    overview.driver.execute_script("before.value = after.value; before.dispatchEvent(new Event('change'))")
    assert not overview["#compare"].is_enabled()  # a version does not differ from itself


def test_a_new_list_leaves_the_keyboard_where_it_is(overview: Page, operator: httpx.Client) -> None:
    focused = lambda: overview.driver.switch_to.active_element.text  # noqa: E731
    overview.driver.execute_script("document.querySelector('#cells-rows tr:last-child a').focus()")
    assert focused() == CELL
    overview.answers("cells", operator.get("/cells").json() | {"unreadable": ["broken"]})
    overview.says("#cells-states", "All 3")
    assert focused() == CELL
