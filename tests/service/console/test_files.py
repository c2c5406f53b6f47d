"""The console as any browser gets it, without one."""

import re
from pathlib import Path

import httpx
import pytest

import service.console
from tests.service.running import running
from tests.service.tiny_service import make_tiny_settings

ASSETS = Path(service.console.__file__).parent / "assets"


def test_page_and_its_files_come_from_the_service_alone(client: httpx.Client) -> None:
    page = client.get("/console")
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    files = {link for link in links if not link.startswith("#")}
    assert files == {"docs", "console/assets/icon.svg", "console/assets/console.css", "console/assets/console.js"}
    for link in files:
        assert client.get(link).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("allowed", [True, False])
async def test_page_can_ask_whether_operators_may_watch_users(tmp_path: Path, allowed: bool) -> None:
    async with running(make_tiny_settings(tmp_path, console_live=allowed)) as client:
        assert (await client.get("/console/settings")).json() == {"live": allowed}


def test_every_module_that_is_imported_is_there(client: httpx.Client) -> None:
    modules = {"console.js"}
    for module in sorted(ASSETS.glob("*.js")):
        modules |= set(re.findall(r'from "\./([^"]+)"', module.read_text()))
    assert modules == {module.name for module in ASSETS.glob("*.js")}
    for module in modules:
        answer = client.get(f"/console/assets/{module}")
        assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/console", "/console/assets/console.js"])
def test_browser_may_load_nothing_else_and_run_no_data(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; ") if " " in rule)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    sources = {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")}
    assert sources == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache"
    unchanged = client.get(path, headers={"If-None-Match": headers["etag"]})
    assert unchanged.status_code in (200, 304)


def test_files_name_no_other_host() -> None:
    for file in ASSETS.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"']+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name


def test_nothing_outside_the_folder_is_served(client: httpx.Client) -> None:
    for path in ("/console/assets/../routes.py", "/console/assets/%2e%2e/routes.py", "/console/assets/none.js"):
        assert client.get(path).status_code == 404
