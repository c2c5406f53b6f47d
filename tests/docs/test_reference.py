"""The reference says what the code says."""

import importlib.util
import json
import re
import shlex
from types import ModuleType

import httpx
import pytest
from pydantic import BaseModel

from fingerpost import CellClient, Client
from fingerpost.wire import CoarsePosition
from fingerpost.wire_trajectory import PathFeatures, Snapshot, TrajectoryRequest
from fingerpost.wire_truths import Truth
from models.artifact import LwlmManifest, MateformerManifest, TrajectoryManifest
from reference_db.cell_description import CellDescription
from reference_db.fingerprint_file import SUFFIXES
from reference_db.sources.field_names import FIELDS
from service import errors
from service.auth.route_scopes import scope_needed
from service.errors import ServiceError
from service.settings import Settings
from tests.docs.pages import PAGES, ROOT, blocks, rows

_PACKAGES = {"fingerpost_client"}  # made by a generator of clients
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


def test_each_command_of_the_trainer_on_the_pages_exists(tables: ModuleType) -> None:
    commands = {
        path: {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        for path, command in tables.trainer_commands()
    }
    written = [line for page in PAGES for line in _shell_lines(page.read_text()) if "fingerpost-train " in line]
    assert written
    for line in written:
        words = shlex.split(line[line.index("fingerpost-train ") :].removesuffix("\\"), comments=True)
        path = next((path for path in commands if words[: len(path.split())] == path.split()), None)
        assert path is not None, line
        if "words" not in commands[path]:  # the family of the recipe parses the options of the others
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= commands[path], line


def test_each_field_of_an_artifact_has_a_meaning(tables: ModuleType) -> None:
    written = tables.TABLES["artifact"]()
    for manifest in (MateformerManifest, TrajectoryManifest, LwlmManifest):
        assert f"### {manifest.__name__}\n" in written
        for field in manifest.model_fields:
            assert f"| `{field}` | " in written
    assert "| - |" not in written


def test_the_fields_of_files_are_those_of_the_code() -> None:
    named = [re.findall(r"`([^`]+)`", row[0]) for row in rows("reference/files.md")]
    documented = {name for names in named for name in names}
    described = {field.alias for field in CellDescription.model_fields.values()}
    assert documented >= {*FIELDS, *SUFFIXES, *described}
    cells = [names for names in named if described.intersection(names)]
    assert {name for names in cells for name in names} == described


def test_each_schema_of_the_service_is_written(tables: ModuleType, demo_url: str) -> None:
    schemas = httpx.get(f"{demo_url}/openapi.json").json()["components"]["schemas"]
    described = [name for name, schema in schemas.items() if schema.get("properties")]
    assert re.findall("^### (.*)$", tables.TABLES["wire"](), re.MULTILINE) == described


def _shell_lines(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [line.removesuffix(" &") for block in blocks for line in block.splitlines() if "kubectl" not in line]


def test_the_metrics_are_those_of_the_service(tables: ModuleType, demo_url: str) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+) ", httpx.get(f"{demo_url}/metrics").text, re.MULTILINE))
    listed = set(re.findall(r"^\| `(\w+)` \|", tables.metrics_table(), re.MULTILINE))
    of_cells = {name for name in listed if name.startswith("fingerpost_cell_")} - exposed
    assert exposed == listed - of_cells - {"fingerpost_worker_up", "fingerpost_worker_starts_total"}
    assert of_cells == {
        "fingerpost_cell_fingerprint_age_seconds",
        "fingerpost_cell_locations_total",
        "fingerpost_cell_stated_accuracy_meters",
        "fingerpost_cell_truths_total",
    }


def test_the_endpoints_are_those_of_the_service(demo_url: str) -> None:
    paths = httpx.get(f"{demo_url}/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, one in paths.items() for method in one if method != "parameters"}
    listed = _endpoints()
    assert described <= listed.keys()
    pages = {("GET", path) for path in ("/", "/docs", "/console", "/console/settings", "/openapi.json")}
    pages.add(("GET", "/console/outlines/{cellId}"))
    assert listed.keys() - described <= pages


def test_each_listed_page_is_there(demo_url: str) -> None:
    for path in ("/", "/docs", "/console", "/openapi.json"):
        assert httpx.get(demo_url + path, follow_redirects=True).status_code == 200, path


@pytest.mark.parametrize(("endpoint", "scope"), _endpoints().items(), ids=lambda value: str(value))
def test_each_endpoint_needs_the_scope_that_the_page_names(endpoint: tuple[str, str], scope: str) -> None:
    method, path = endpoint
    assert scope_needed(method, re.sub(r"\{\w+\}", "x", path)) == (None if scope == "-" else scope)


def test_the_page_of_clients_names_all_methods_of_the_python_client_and_no_others() -> None:
    page = (ROOT / "docs" / "send" / "clients.md").read_text()
    told = set(re.findall(r"`([a-z_]+)(?:\([^`]*)?`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    methods = {name for kind in (Client, CellClient) for name in vars(kind) if not name.startswith("_")}
    listed = {"list_versions", "list_fingerprints", "close", "cell"}  # beside the iterators; in the text
    assert told == methods - listed
    assert all(name in page for name in listed - {"close"})


def test_the_documented_trajectories_have_fields_of_the_wire() -> None:
    documented = [json.loads(one) for one in blocks("send/batches-and-tracks.md", "json") if "snapshots" in one]
    by_fingerprints, learned = documented
    for one in documented:
        assert one.keys() <= _wire_names(TrajectoryRequest)
        assert all(snapshot.keys() <= _wire_names(Snapshot) for snapshot in one["snapshots"])
    assert all(
        snapshot["coarsePosition"].keys() <= _wire_names(CoarsePosition) for snapshot in by_fingerprints["snapshots"]
    )
    assert all(snapshot["pathFeatures"].keys() <= _wire_names(PathFeatures) for snapshot in learned["snapshots"])


def test_the_documented_truths_have_fields_of_the_wire() -> None:
    (documented,) = (json.loads(one) for one in blocks("run/truths.md", "json"))
    assert documented["items"]
    for item in documented["items"]:
        assert item.keys() <= _wire_names(Truth)


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


def _alerts() -> dict[str, str]:
    """Severity by the name of the alert."""
    rules = (ROOT / "deploy" / "prometheus" / "fingerpost.alerts.yml").read_text()
    return dict(re.findall(r"- alert: (\w+)\n.*?labels: {severity: (\w+)", rules, re.DOTALL))


def test_the_alerts_are_listed_with_their_pages() -> None:
    listed = {row[0]: row[1] for row in rows("run/monitoring.md") if row[0].startswith("[Fingerpost")}
    assert listed == {f"[{name}](alerts/{name}.md)": severity for name, severity in _alerts().items()}
    assert {path.stem for path in (ROOT / "docs" / "run" / "alerts").iterdir()} == _alerts().keys()


@pytest.mark.parametrize("name", _alerts())
def test_the_page_of_an_alert_says_all_that_one_needs(name: str) -> None:
    page = _page(f"run/alerts/{name}.md")
    assert page.startswith(f"# {name}\n\nSeverity: {_alerts()[name]}.\n")
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [
        "Symptom",
        "Impact",
        "How to confirm",
        "What to do",
        "How to tell that it is over",
    ]


def test_the_pages_name_metrics_that_exist(tables: ModuleType) -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", tables.metrics_table(), re.MULTILINE))
    rules = (ROOT / "deploy" / "prometheus" / "fingerpost.rules.yml").read_text()
    recorded = set(re.findall(r"record: (\S+)", rules))
    for page in PAGES:
        text = page.read_text()
        named = set(re.findall(r"\b(?<![:/.-])(fingerpost_[a-z_]+[a-z])\b(?![:/-])", text)) - _PACKAGES
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= listed, page
        assert set(re.findall(r"\b(?:job|instance):fingerpost_[a-z_]+:\w+", text)) <= recorded, page


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
