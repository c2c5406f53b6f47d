"""The wheels: their files, their metadata, and the commands beside other packages of the same names."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAKEN = ("models", "reference_db", "service")  # names of ours that other distributions may use
SERVER_ONLY = {
    *("fastapi", "faiss", "httptools", "msgspec", "onnx", "onnxruntime", "prometheus_client", "pydantic_settings"),
    *("pyproj", "redis", "starlette", "swagger_ui", "threadpoolctl", "uvicorn", "uvloop"),
}
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both wheels hold, unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, ROOT / "models" / "artifacts"):
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(build, check=True, cwd=project, capture_output=True)
    wheels = list(folder.glob("*.whl"))
    assert sorted(wheel.name.partition("-")[0] for wheel in wheels) == ["fingerpost", "fingerpost_models"]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def metadata(site: Path) -> Message:
    (file,) = site.glob("fingerpost-*.dist-info/METADATA")
    return message_from_string(file.read_text())


def test_the_only_package_at_the_top_is_fingerpost(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"fingerpost"}


def test_the_wheel_of_the_client_has_no_artifact(site: Path) -> None:
    (record,) = site.glob("fingerpost-*.dist-info/RECORD")
    assert "models/artifacts/" not in record.read_text()


def test_the_wheels_have_what_the_server_reads(site: Path) -> None:
    server = site / "fingerpost" / "_server"
    assert {path.name for path in server.iterdir()} == set(TAKEN)
    manifests = list((server / "models" / "artifacts").glob("*/artifact.json"))
    shipped = (ROOT / "models" / "artifacts").glob("*/artifact.json")
    assert {path.parent.name for path in manifests} == {path.parent.name for path in shipped}
    for manifest in manifests:
        graphs = set(re.findall(r'"([a-z_]+\.onnx)"', manifest.read_text()))
        assert graphs
        assert graphs <= {path.name for path in manifest.parent.iterdir()}
    assets = Path("service", "console", "assets")
    assert {path.name for path in (server / assets).iterdir()} == {path.name for path in (ROOT / assets).iterdir()}
    assert list((server / "models").rglob("recipes/*.yaml"))
    assert (site / "fingerpost" / "py.typed").exists()


def test_the_wheels_have_no_training_weights_or_logs(site: Path) -> None:
    names = {path.name for path in site.rglob("*")}
    assert not [name for name in names if name.endswith((".safetensors", ".jsonl", ".png"))]
    assert not {"tests", "benchmarks", "docs", "deploy"} & names


def test_the_client_alone_has_few_requirements(metadata: Message) -> None:
    required = {
        re.split(r"[^\w-]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line
    }
    assert required == {"httpx", "numpy", "pydantic", "pyyaml", "rich", "safetensors", "typer"}
    assert {"cpu", "gpu", "train"} <= set(metadata.get_all("Provides-Extra", []))


def test_the_description_works_outside_the_repository(metadata: Message) -> None:
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert description.startswith("# Fingerpost")
    assert "![" not in description
    assert "<img" not in description
    assert not re.findall(r"\]\((?!https?://|#)", description)
    assert metadata["Author"] == "The Fingerpost authors"


@pytest.fixture
def crowded(site: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A working directory, and an environment, that have packages with the names of ours. Importing them fails."""
    folders = tmp_path / "work", tmp_path / "installed"
    for folder in folders:
        for name in TAKEN:
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    return folders[0], os.environ | {"PYTHONPATH": f"{folders[1]}{os.pathsep}{site}"}


CONSOLE_SCRIPT = "from fingerpost.__main__ import main; main()"


@pytest.mark.parametrize("start", [("-m", "fingerpost"), ("-c", CONSOLE_SCRIPT)])
def test_the_server_runs_beside_packages_of_the_same_names(
    crowded: tuple[Path, dict[str, str]], start: tuple[str, str]
) -> None:
    folder, environment = crowded
    command = [sys.executable, *start, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("fingerpost: serving at ")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0


def test_the_trainer_starts_beside_packages_of_the_same_names(crowded: tuple[Path, dict[str, str]]) -> None:
    folder, environment = crowded
    command = [sys.executable, "-c", "from fingerpost.__main__ import train; train()", "--help"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert "export" in done.stdout


@pytest.fixture
def client_only(site: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which only the requirements of the client can be imported."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(
        "import sys\n"
        f"BLOCKED = {SERVER_ONLY}\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name in BLOCKED:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'blocked'}{os.pathsep}{site}", "COLUMNS": "200"}


def run(environment: dict[str, str], folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fingerpost", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


def test_commands_that_ask_a_service_need_no_extra(client_only: dict[str, str], tmp_path: Path, url: str) -> None:
    users = ROOT / "benchmarks" / "data" / "florence-0000-users.safetensors"
    assert run(client_only, tmp_path, "--version").stdout.startswith("fingerpost 1.")
    assert "serve" in run(client_only, tmp_path, "--help").stdout
    listed = run(client_only, tmp_path, "cells", "list", "--json", "--url", url)
    assert {cell["cellId"] for cell in json.loads(listed.stdout)["cells"]} >= {"plane", "other"}
    exported = run(client_only, tmp_path, "cells", "export", "plane", "plane.npz", "--url", url)
    assert exported.returncode == 0, exported.stderr
    located = run(client_only, tmp_path, "locate", "plane.npz", "--rows", 3, "--url", url)
    assert located.returncode == 0, located.stderr
    assert "CELL_NOT_FOUND" in run(client_only, tmp_path, "locate", users, "--rows", 1, "--url", url).stdout
    assert run(client_only, tmp_path, "models", "list", "--url", url).returncode == 0


@pytest.mark.parametrize("arguments", [("serve",), ("cells", "list")])
def test_commands_of_the_server_name_the_missing_extra(
    client_only: dict[str, str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run(client_only, tmp_path, *arguments)
    assert done.returncode == 1
    assert re.fullmatch(r"fingerpost: .*pip install 'fingerpost\[cpu\]'\n", done.stderr)
