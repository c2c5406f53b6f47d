"""Clean environments: virtual environments of each Python, into which the built files are installed as users do it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from deploy.release.build import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
CLIENT_LIMIT_MB = 30.0  # of what `pip install fingerpost` downloads

_TIMEOUT_S = 900
_DATA = ROOT / "benchmarks" / "data"
_CELL, _USERS = "florence-0000", 20


class CheckFailed(Exception):
    """What was installed does not work, or is too large."""


class ClientSize(NamedTuple):
    """Megabytes that `pip install fingerpost` downloads, and that it takes on the disk."""

    download: float
    installed: float


def find_python(version: str) -> Path | None:
    """An interpreter of this version, on the PATH or among those of pyenv; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for candidate in (*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"{version}.*/bin/python3"))):
        asked = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(asked, check=False, capture_output=True, text=True)
        if answer.stdout.strip() == version:
            return candidate
    return None


def install_client(python: Path, folder: Path, files: Path, version: str) -> ClientSize:
    """Installs the client alone into a new environment, and asks it for its version. Raises `CheckFailed`."""
    _make(python, folder)
    downloads = folder / "downloads"
    _pip(python, "download", "--dest", downloads, "--find-links", files, f"fingerpost=={version}")
    _pip(python, "--python", folder / "bin/python3", "install", "--no-index", "--find-links", downloads, "fingerpost")
    printed = _run([folder / "bin" / "fingerpost", "--version"], folder)
    if printed != f"fingerpost {version}\n":
        raise CheckFailed(f"`fingerpost --version` prints {printed!r}")
    _run([folder / "bin" / "python3", "-c", "from fingerpost import AsyncClient, Client"], folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    size = ClientSize(_megabytes(downloads), _megabytes(packages))
    shutil.rmtree(downloads)
    if size.download > CLIENT_LIMIT_MB:
        raise CheckFailed(f"`pip install fingerpost` downloads {size.download:.1f} MB, over {CLIENT_LIMIT_MB:g}")
    return size


def install_server(python: Path, folder: Path, files: Path, version: str) -> str:
    """Installs the server into a new environment, serves a cell with it, and locates users. Returns what it printed.

    Raises `CheckFailed`.
    """
    _make(python, folder)
    requirement = f"fingerpost[cpu]=={version}"
    _pip(python, "--python", folder / "bin/python3", "install", "--find-links", files, requirement)
    program, database = folder / "bin" / "fingerpost", folder / "database"
    database.mkdir()
    with _serving([program, "serve", "--database", database, "--port", "0"], folder) as url:
        references, users = (_DATA / f"{_CELL}-{name}.safetensors" for name in ("references", "users"))
        _run([program, "cells", "import", _CELL, references, "--url", url], folder)
        located = _run([program, "locate", users, "--rows", str(_USERS), "--url", url], folder)
    if _CELL not in _run([program, "cells", "list", "--database", database], folder):
        raise CheckFailed(f"the database does not list {_CELL}")
    return located


def write_bill(python: Path, file: Path) -> None:
    """Writes the software bill of materials of an environment (CycloneDX, JSON).

    Without times, serial numbers, and the folders of this machine that packages were installed from.
    """
    program = shutil.which("cyclonedx-py", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program is not None
    # Its validation takes minutes.
    command = [
        program,
        "environment",
        "--no-validate",
        "--output-reproducible",
        "--output-format",
        "JSON",
        "--output-file",
        file,
    ]
    subprocess.run([*command, python], check=True, stderr=subprocess.DEVNULL)
    bill = json.loads(file.read_text())
    for component in bill["components"]:
        references = component.pop("externalReferences", [])
        if kept := [one for one in references if not one["url"].startswith("file:")]:
            component["externalReferences"] = kept
    file.write_text(json.dumps(bill, indent=2) + "\n")


def _make(python: Path, folder: Path) -> None:
    """An environment without pip: what is in it is what was installed."""
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", folder], check=True)


def _pip(python: Path, *arguments: object) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CheckFailed(f"pip {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def _environment() -> dict[str, str]:
    """In which no module of ours is found but those installed, and a calibration is quick."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return ours | {"FINGERPOST_CALIBRATION_SAMPLES": "60"}


def _run(command: list[str | Path], folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise CheckFailed(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def _serving(command: list[str | Path], folder: Path) -> Iterator[str]:
    """A running service. Yields its address."""
    with subprocess.Popen(command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise CheckFailed("`fingerpost serve` does not say where it serves")
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_TIMEOUT_S)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
