"""The view of API keys, and the field for a key."""

import json
from typing import Any

from tests.service.browser import Page
from tests.service.console.conftest import Opened
from tests.service.console.networks import days_ago


def test_a_service_without_keys_says_so(opened: Opened) -> None:
    page = opened("#/keys")
    page.says("#keys-status", "needs no API keys")


def test_keys_are_listed_with_their_last_use_and_unused_ones_are_marked(opened: Opened) -> None:
    page = opened("#/keys")
    page.says("#keys-status", "API keys")
    made: dict[str, Any] = {"createdAt": days_ago(100)}
    keys = [
        made | {"id": "0" * 12, "name": "<i>north</i>", "scopes": ["locate"], "rate": 50.0, "lastUsed": days_ago(0)},
        made | {"id": "1" * 12, "name": "old", "scopes": ["read", "operate"], "lastUsed": days_ago(40)},
        made | {"id": "2" * 12, "name": "new", "scopes": ["read"]},
    ]
    page.answers("keys", {"required": True, "keys": keys})
    page.says("#keys", "north")
    script = """
        const rows = [...document.querySelectorAll("#keys tbody tr")];
        return rows.map(({ cells }) => [...cells].map((one) => one.innerText));"""
    assert page.driver.execute_script(script) == [
        ["<i>north</i>", "0" * 12, "locate", "50", "3 mo ago", "1 s ago"],  # as it was written: no markup
        ["old", "1" * 12, "read, operate", "any", "3 mo ago", "1 mo ago"],
        ["new", "2" * 12, "read", "any", "3 mo ago", "never"],
    ]
    assert page.driver.execute_script("return document.querySelectorAll('#keys .stale').length") == 2
    page.answers("keys", {"required": True, "keys": keys, "usesSince": days_ago(1)})
    page.says("#keys-status", "Uses are those of this replica since")


def test_a_key_is_sent_and_kept_in_the_tab_only(overview: Page) -> None:
    overview["#key"].send_keys("open-sesame")
    overview["#key"].send_keys("\t")
    assert overview.driver.execute_script("return sessionStorage.getItem('fingerpost-key')") == "open-sesame"
    assert overview.driver.execute_script("return localStorage.length + document.cookie.length") == 0
    sent = lambda: "Bearer open-sesame" in json.dumps(overview.driver.get_log("performance"))  # noqa: E731
    overview.until(sent, "the key goes with requests")
    overview["#key"].clear()
    overview["#key"].send_keys("\t")
    assert overview.driver.execute_script("return sessionStorage.length") == 0
