"""What an operator gets from ``pip install '.[cpu]'``, in a fresh virtual environment."""

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_MB = 400


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder. Built from a copy, so that no build output is left in the checkout."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, sources)
    for package in ("service", "reference_db", "models"):
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", "constraints.txt", ".[cpu]"], check=True, cwd=sources)
    return folder


def test_the_service_install_has_no_torch_and_stays_small(environment: Path) -> None:
    packages = {path.name for path in environment.glob("lib/python*/site-packages/*")}
    assert not {"torch", "sionna", "mitsuba", "scipy", "matplotlib"} & packages
    assert {"onnxruntime", "faiss", "service", "reference_db", "models"} <= packages
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < LIMIT_MB * 1e6


def test_the_installed_service_starts_with_the_artifact_it_brought(environment: Path, tmp_path: Path) -> None:
    command = [environment / "bin" / "fingerpost", "serve", "--port", "0", "--database", tmp_path / "database"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert "serving at http://127.0.0.1:" in process.stdout.readline()
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        process.stdout.close()
