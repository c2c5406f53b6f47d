"""Clients that other tools generate from the OpenAPI document work against the running service."""

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.service.plane_cell import Json

GENERATED_OPERATIONS = {
    "activate_model",
    "append_fingerprints",
    "collect_versions",
    "correct_cell",
    "delete_cell",
    "delete_fingerprints",
    "diff_versions",
    "export_cell",
    "forget_fingerprints",
    "list_cells",
    "list_fingerprints",
    "list_keys",
    "list_models",
    "list_versions",
    "live",
    "locate",
    "locate_batch",
    "locate_trajectory",
    "measure",
    "metrics",
    "put_cell",
    "ready",
    "roll_back",
    "score_truths",
    "set_model",
    "set_retention",
    "show_cell",
    "show_change",
    "show_errors",
    "show_latency",
    "show_truths",
    "show_version",
    "watch_cell",
}


@pytest.fixture(scope="module")
def document(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(httpx.get(f"{url}/openapi.json", timeout=60).raise_for_status().content)
    return path


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def generated(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, str]]:
    """The package that openapi-python-client writes, and the tool's output."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yml").write_text("post_hooks: []\n")
    output = run(
        "openapi_python_client",
        *("generate", "--path", str(document), "--output-path", str(folder / "fingerpost_generated")),
        *("--meta", "none", "--config", str(folder / "config.yml"), "--fail-on-warning"),
        cwd=folder,
    )
    sys.path.insert(0, str(folder))
    yield importlib.import_module("fingerpost_generated"), output
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == "fingerpost_generated"]:
        del sys.modules[name]


def test_every_operation_is_generated_without_a_warning(generated: tuple[ModuleType, str], document: Path) -> None:
    package, output = generated
    assert "warning" not in output.lower()
    assert package.__file__ is not None
    files = (Path(package.__file__).parent / "api").glob("*/*.py")
    operations = {
        operation["operationId"]
        for operations in json.loads(document.read_bytes())["paths"].values()
        for operation in operations.values()
    }
    assert len(operations) == len(GENERATED_OPERATIONS)
    assert {file.stem for file in files} - {"__init__"} == GENERATED_OPERATIONS


def test_the_generated_client_locates_a_user(
    generated: tuple[ModuleType, str], url: str, request_body: Callable[..., Json]
) -> None:
    locate = importlib.import_module("fingerpost_generated.api.locate.locate")
    models = importlib.import_module("fingerpost_generated.models")
    with generated[0].Client(base_url=url) as client:
        located: Any = locate.sync(client=client, body=models.LocateRequest.from_dict(request_body(requestId="a")))
        refused: Any = locate.sync(client=client, body=models.LocateRequest.from_dict(request_body(cellId="nowhere")))
    assert isinstance(located, models.LocateResponse)
    assert located.request_id == "a"
    assert located.local_location_estimate.local_origin.coordinate_id == "plane"
    assert isinstance(refused, models.Problem)
    assert refused.cause == "CELL_NOT_FOUND"


def test_the_generated_client_reads_cells_and_models(generated: tuple[ModuleType, str], url: str) -> None:
    cells, models = (f"fingerpost_generated.api.{tag}" for tag in ("cells", "models"))
    with generated[0].Client(base_url=url) as client:
        listed_cells = importlib.import_module(f"{cells}.list_cells").sync(client=client)
        cell = importlib.import_module(f"{cells}.show_cell").sync("plane", client=client)
        listed_models = importlib.import_module(f"{models}.list_models").sync(client=client)
    assert "plane" in [one.cell_id for one in listed_cells.cells]
    assert (cell.cell_id, cell.area) == ("plane", None)
    assert listed_models.models[0].family == "mateformer"


def test_generated_pydantic_models_with_their_nulls_are_accepted(
    document: Path, tmp_path: Path, client: httpx.Client, request_body: Callable[..., Json]
) -> None:
    run(
        "datamodel_code_generator",
        *("--input", str(document), "--input-file-type", "openapi", "--output", str(tmp_path / "generated_models.py")),
        *("--output-model-type", "pydantic_v2.BaseModel"),
        cwd=tmp_path,
    )
    specification = importlib.util.spec_from_file_location("generated_models", tmp_path / "generated_models.py")
    assert specification is not None
    assert specification.loader is not None
    models = importlib.util.module_from_spec(specification)
    sys.modules["generated_models"] = models
    try:
        specification.loader.exec_module(models)
        body = models.LocateRequest.model_validate(request_body()).model_dump_json()
    finally:
        del sys.modules["generated_models"]
    assert "null" in body
    response = client.post("/locate", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
