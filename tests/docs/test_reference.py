"""The reference says what the code says."""

import importlib.util
import json
import re
import shlex
from types import ModuleType

import httpx
import pytest
from pydantic import BaseModel

from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest
from service import errors
from service.auth.route_scopes import scope_needed
from service.errors import ServiceError
from service.settings import Settings
from tests.docs.pages import PAGES, ROOT, blocks, rows

_ENDPOINT = re.compile(r"^`(GET|POST|PUT|DELETE|PATCH) (/\S*)`$")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_tables", ROOT / "docs" / "hooks" / "reference_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _endpoints() -> dict[tuple[str, str], str]:
    """Scope by method and path, as the page has it."""
    found = [(_ENDPOINT.match(row[0]), row[1]) for row in rows("reference/http.md")]
    return {(match[1], match[2]): scope.strip("`") for match, scope in found if match}


def test_the_settings_are_those_of_the_code(tables: ModuleType) -> None:
    names = re.findall(r"^\| `FINGERPOST_(\w+)` \|", tables.settings_table(), re.MULTILINE)
    assert names == [name.upper() for name in Settings.model_fields]


def test_each_setting_has_a_meaning_and_a_default(tables: ModuleType) -> None:
    for line in tables.settings_table().splitlines()[2:]:
        assert all(cell.strip() for cell in line.strip("|").split(" | ")), line


def test_the_causes_are_those_of_the_code(tables: ModuleType) -> None:
    raised = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]
    assert {cause for _, cause, _ in tables.causes()} == {kind.cause for kind in raised if hasattr(kind, "cause")}


def test_each_cause_has_a_meaning(tables: ModuleType) -> None:
    assert [cause for _, cause, meaning in tables.causes() if not meaning] == []


def test_each_cause_has_advice_and_no_advice_is_left_over(tables: ModuleType) -> None:
    assert {cause for _, cause, _ in tables.causes()} == set(tables.ADVICE)


def test_each_command_of_the_pages_has_the_options_that_they_give(tables: ModuleType) -> None:
    commands = {
        path: {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        for path, command in tables.commands()
    }
    written = [line for page in PAGES for line in _shell_lines(page.read_text()) if "fingerpost " in line]
    assert written
    for line in written:
        words = shlex.split(line[line.index("fingerpost ") :], comments=True)
        path = next((path for path in commands if words[: len(path.split())] == path.split()), None)
        assert path is not None, line
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= commands[path], line


def _shell_lines(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [line.removesuffix(" &") for block in blocks for line in block.splitlines() if "kubectl" not in line]


def test_the_metrics_are_those_of_the_service(tables: ModuleType, demo_url: str) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+) ", httpx.get(f"{demo_url}/metrics").text, re.MULTILINE))
    listed = set(re.findall(r"^\| `(\w+)` \|", tables.metrics_table(), re.MULTILINE))
    of_cells = {name for name in listed if name.startswith("fingerpost_cell_")} - exposed
    assert exposed == listed - of_cells
    assert of_cells == {
        "fingerpost_cell_fingerprint_age_seconds",
        "fingerpost_cell_locations_total",
        "fingerpost_cell_stated_accuracy_meters",
    }


def test_the_endpoints_are_those_of_the_service(demo_url: str) -> None:
    paths = httpx.get(f"{demo_url}/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, one in paths.items() for method in one if method != "parameters"}
    listed = _endpoints()
    assert described <= listed.keys()
    pages = {("GET", path) for path in ("/", "/docs", "/console", "/console/settings", "/openapi.json")}
    assert listed.keys() - described <= pages


def test_each_listed_page_is_there(demo_url: str) -> None:
    for path in ("/", "/docs", "/console", "/openapi.json"):
        assert httpx.get(demo_url + path, follow_redirects=True).status_code == 200, path


@pytest.mark.parametrize(("endpoint", "scope"), _endpoints().items(), ids=lambda value: str(value))
def test_each_endpoint_needs_the_scope_that_the_page_names(endpoint: tuple[str, str], scope: str) -> None:
    method, path = endpoint
    assert scope_needed(method, re.sub(r"\{\w+\}", "x", path)) == (None if scope == "-" else scope)


def test_the_documented_trajectory_has_fields_of_the_wire() -> None:
    documented = next(json.loads(one) for one in blocks("send/batches-and-tracks.md", "json") if "snapshots" in one)
    (snapshot,) = documented["snapshots"]
    assert documented.keys() <= _wire_names(TrajectoryRequest)
    assert snapshot.keys() <= _wire_names(Snapshot)
    assert snapshot["pathFeatures"].keys() <= _wire_names(PathFeatures)


def _wire_names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_every_file_that_the_pages_name_is_there() -> None:
    rooms = "benchmarks|deploy|docs|fingerpost|models|reference_db|service|tests"
    named = {path for page in PAGES for path in re.findall(rf"`((?:{rooms})/[\w./-]*\w)`", page.read_text())}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_table_of_a_city_has_the_figures_of_the_deployment() -> None:
    """`tests/benchmarks/sizing` compares those with the code."""
    computed = [row[1:] for row in rows("../deploy/README.md") if len(row) == 3]
    documented = [row[1:] for row in rows("run/sizing.md") if len(row) == 3]
    assert [row for row in documented if row in computed][:15] == documented[:15]


def test_each_alert_is_documented_with_what_to_do() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "fingerpost.alerts.yml").read_text()
    severities = dict(re.findall(r"- alert: (\w+)\n.*?labels: {severity: (\w+)", rules, re.DOTALL))
    assert severities
    documented = {row[0].strip("`"): row for row in rows("run/monitoring.md") if row[0].startswith("`Fingerpost")}
    assert {name: row[1] for name, row in documented.items()} == severities
    assert [name for name, row in documented.items() if not (row[2] and row[3])] == []


def test_each_task_in_the_background_is_documented() -> None:
    jobs = {
        name for path in (ROOT / "service").rglob("*.py") for name in re.findall(r'\bJob\("([^"]+)"', path.read_text())
    }
    assert {"keys", "news", "certificate"} <= jobs
    (documented,) = re.findall(
        r"^## Tasks in the background$(.*?)^## ", _page("run/monitoring.md"), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"^\| `([^`]+)` \|", documented, re.MULTILINE)) - {"task"} == jobs


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()
