"""The view of traffic."""

import re
from typing import Any

import httpx
import numpy as np

from fingerpost import build_locate_body
from tests.service.browser import Page
from tests.service.console.conftest import Opened
from tests.service.console.surveys import CELL, SMALL, locate

METRICS = """\
# HELP fingerpost_locations_total Users.
# TYPE fingerpost_locations_total counter
fingerpost_locations_total{fallback="none",outcome="located",source="mateformer"} 90.0
fingerpost_locations_total{fallback="CSI_FOREIGN",outcome="located",source="weighted-knn"} 6.0
fingerpost_locations_total{fallback="none",outcome="CSI_ALL_ZERO",source="none"} 4.0
fingerpost_problems_total{cause="CSI_ALL_ZERO"} 4.0
fingerpost_problems_total{cause="KEY_UNKNOWN"} 0.0
fingerpost_cell_locations_total{cell="say \\"hi\\"",outcome="located"} 96.0
fingerpost_cell_locations_total{cell="other cells",outcome="failed"} 4.0
fingerpost_requests_total{route="/locate",status="200"} 96.0
process_start_time_seconds 1.7e+09
"""


def rows(page: Page, table: str) -> list[list[str]]:
    script = """
        const rows = [...document.querySelectorAll(`#${arguments[0]} tbody tr`)];
        return rows.map(({ cells }) => [...cells].map((one) => one.innerText));"""
    return list(page.driver.execute_script(script, table))


def test_users_are_counted_by_outcome_with_the_cause_of_each_refusal(opened: Opened, operator: httpx.Client) -> None:
    locate(operator, range(2))
    loud = np.full((32, 32), 1 + 1j, np.complex64)
    assert operator.post("/locate", json=build_locate_body(CELL, loud)).status_code == 422
    page = opened("#/traffic")
    page.until(lambda: len(rows(page, "answers")) >= 2, "users and refusals are there")
    counted = {outcome: int(total.replace(",", "")) for outcome, _, total in rows(page, "answers")}
    assert counted["located by mateformer"] >= 2
    assert counted["CSI_LEVEL_IMPLAUSIBLE"] >= 1
    page.says("#by-cell", "set FINGERPOST_CELL_SERIES")
    assert re.search(r"of the replica that serves .*, which started [0-9]+ (s|min) ago", page.text("#traffic-replica"))
    for stage in ("decode", "queue", "retrieve", "frame", "infer", "encode", "/locate"):
        page.says("#latency", stage)
    page.until(
        lambda: re.fullmatch(r"[0-9.]+ (µs|ms|s)", page.text("#latency .whole .p99")), "how long it takes is said"
    )
    module = "import('/console/assets/latency.js').then((module) => arguments[0](module.stageName('cues')))"
    assert page.driver.execute_async_script(module) == "path features"


def test_the_last_minute_and_the_rates_are_what_came_since_the_page_looked_first(opened: Opened) -> None:
    page = opened("#/traffic")
    more = METRICS.replace("90.0", "120.0").replace(" 6.0", " 16.0")
    scrape(page, METRICS)
    page.until(lambda: ["located by mateformer", "0", "90"] in rows(page, "answers"), "the counters are read")
    scrape(page, more)
    page.until(lambda: ["located by mateformer", "30", "120"] in rows(page, "answers"), "what came is told apart")
    assert rows(page, "answers")[1:] == [["located by weighted-knn", "10", "16"], ["CSI_ALL_ZERO", "0", "4"]]
    assert rows(page, "fallbacks") == [["CSI_FOREIGN", "weighted-knn", "10", "16"]]
    assert rows(page, "problems") == [["CSI_ALL_ZERO", "0", "4"]]
    assert rows(page, "by-cell") == [['say "hi"', "located", "0", "96"], ["other cells", "failed", "0", "4"]]
    assert re.search(r"0 %\nrefused", page.text("#rates"))
    assert re.search(r"25 %\nby a fallback", page.text("#rates"))
    assert re.search(r"[0-9.]+ located, 0 refused", page["#chart"].get_attribute("aria-label") or "")
    scrape(page, METRICS.replace("1.7e+09", "1.8e+09"))  # another process counts from zero
    page.until(lambda: ["located by mateformer", "0", "90"] in rows(page, "answers"), "its counts are not subtracted")


def scrape(page: Page, text: str) -> None:
    """From here on `/metrics` answers this."""
    script = """
        const [text, real] = [arguments[0], window.real ?? window.fetch];
        window.real = real;
        window.fetch = (asked, options) =>
            asked === "metrics" ? Promise.resolve(new Response(text)) : real(asked, options);
        key.dispatchEvent(new Event("change"));"""
    page.driver.execute_script(script, text)


def test_the_view_names_the_cell_whose_replica_it_asks(opened: Opened) -> None:
    page = opened(f"#{SMALL}")
    page.says("#name", SMALL)
    page.driver.get_log("performance")
    page.click("nav a", "Traffic")
    page.says("#traffic-replica", f"of the replica that serves {SMALL}")
    sent: Any = [entry["message"] for entry in page.driver.get_log("performance") if "/metrics" in entry["message"]]
    assert any(f'"Fingerpost-Cell":"{SMALL}"' in message for message in sent)
