"""The images, without Docker: the Dockerfile's own steps run in a folder instead of an image."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.balanced import DEADLINE_S, running, url_of
from tests.deploy.dockerfile import ROOT, read_stages, sent_to_the_builder

LIMIT_MB = 400
BESIDE_PYTHON = Path(sys.executable).parent
STAGES = read_stages()
INSTALLED, DATABASE = "/opt/fingerpost", "/var/lib/fingerpost"  # in the image


class Image(NamedTuple):
    """The two folders of the service's image, INSTALLED and DATABASE, on this machine."""

    folder: Path
    database: Path

    def placed(self, text: str) -> str:
        return text.replace(INSTALLED, str(self.folder)).replace(DATABASE, str(self.database))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Installs as the stage `installed` does, from the files that the stage `source` copies."""
    context = tmp_path_factory.mktemp("context")
    for names in STAGES["source"].arguments("COPY"):
        *sources, target = names.split()
        for source in sources:
            path = context / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, path, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, path / source)
    parent = tmp_path_factory.mktemp("image")
    image = Image(parent / "fingerpost", parent / "database")
    for line in STAGES["installed"].arguments("RUN"):
        step = " ".join(word for word in line.split() if not word.startswith("--mount="))
        environment = os.environ | {"PATH": f"{BESIDE_PYTHON}:{os.environ['PATH']}", "VARIANT": "cpu"}
        subprocess.run(["sh", "-c", image.placed(step)], check=True, cwd=context, env=environment)
    for line in STAGES["service"].arguments("COPY"):
        stage, source, target = line.removeprefix("--from=").split()
        if stage == "source":
            shutil.copy(context / source.lstrip("/"), image.placed(target))
    return image


@pytest.fixture
def hadolint() -> str:
    path = shutil.which("hadolint", path=f"{BESIDE_PYTHON}:{os.environ['PATH']}")
    if path is None:
        pytest.skip("hadolint is not installed")
    return path


def test_hadolint_finds_nothing(hadolint: str) -> None:
    command = [hadolint, "--config", ROOT / ".hadolint.yaml", "--failure-threshold", "style", ROOT / "Dockerfile"]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_builder_gets_the_copied_files_and_no_others() -> None:
    assert sent_to_the_builder("models/artifacts/mateformer/artifact.json")
    copied = [name for names in STAGES["source"].arguments("COPY") for name in names.split()[:-1]]
    assert all(map(sent_to_the_builder, copied))
    others = {path.name for path in ROOT.iterdir()} - {Path(name).parts[0] for name in copied}
    assert {"tests", "benchmarks"} <= others
    assert not [name for name in others if sent_to_the_builder(name)]
    assert not sent_to_the_builder("deploy/prometheus/prometheus.yml")
    assert not sent_to_the_builder("service/updates/__pycache__/router.cpython-312.pyc")


@pytest.mark.parametrize("target", ["service", "trainer"])
def test_images_do_not_run_as_root(target: str) -> None:
    (user,) = STAGES[target].arguments("USER")
    assert all(int(number) > 0 for number in user.split(":"))


@pytest.mark.parametrize("target", ["service", "trainer"])
def test_every_variant_ends_at_a_versioned_base_image(target: str) -> None:
    for variant in ("cpu", "gpu"):
        base = target
        while base in STAGES:
            base = STAGES[base].base.replace("${VARIANT}", variant)
        assert ":" in base


def test_the_extra_for_gpus_needs_the_cuda_of_the_image_and_no_other() -> None:
    (of_image,) = re.findall(r"^FROM nvidia/cuda:(\d+)\.", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = [*project["gpu"], *project["server"], *(ROOT / "constraints.txt").read_text().splitlines()]
    assert {found for line in needed for found in re.findall(r"cu(?:da)?(1\d)", line)} <= {of_image}
    assert f"CUDA {of_image}" in (ROOT / "docs" / "run" / "index.md").read_text()


def test_service_image_has_neither_torch_nor_pip_and_stays_small(image: Image) -> None:
    packages = {path.name for path in image.folder.glob("lib/python*/site-packages/*")}
    assert not {"torch", "sionna", "mitsuba", "scipy", "matplotlib", "pip", "setuptools"} & packages
    assert {"faiss", "fastapi", "fingerpost", "onnxruntime"} <= packages
    assert not {"service", "reference_db", "models"} & packages
    size = sum(path.stat().st_size for path in image.folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < LIMIT_MB * 1e6


def test_service_image_has_every_file_of_the_console(image: Image) -> None:
    (installed,) = image.folder.glob("lib/python*/site-packages/fingerpost/_server/service/console/assets")
    assets = ROOT / "service" / "console" / "assets"
    assert {path.name for path in installed.iterdir()} == {path.name for path in assets.iterdir()}


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The running ENTRYPOINT of the image, and its environment: the image's, but for the port and the keys."""
    stage = STAGES["service"]
    home, image_environment = tmp_path / "home", stage.environment()
    home.mkdir()
    image.database.mkdir()
    environment = {name: image.placed(value) for name, value in image_environment.items()}
    environment |= {"PATH": environment["PATH"].replace("$PATH", os.environ["PATH"])}
    keys = tmp_path / "keys.json"
    environment |= {"HOME": str(home), "FINGERPOST_PORT": "0", "FINGERPOST_KEYS_FILE": str(keys)}
    program, *arguments = stage.command("ENTRYPOINT")
    command = [str(shutil.which(program, path=environment["PATH"])), *arguments]
    subprocess.run([command[0], "keys", "add", "operators", "--scope", "operate"], env=environment, check=True)
    with running(command, environment) as process:
        yield process, environment
    assert process.returncode == 0
    assert not list(home.iterdir())


def test_a_container_is_healthy_while_it_serves_and_writes_only_into_its_volume(
    image: Image, container: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    before = sorted(image.folder.rglob("*"))
    process, environment = container
    port = url_of(process).rpartition(":")[2]
    program, *arguments = map(image.placed, STAGES["service"].command("HEALTHCHECK"))
    command = [str(shutil.which(program, path=environment["PATH"])), *arguments]
    environment = environment | {"FINGERPOST_PORT": port}
    assert subprocess.run(command, env=environment, timeout=DEADLINE_S, check=False).returncode == 0
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    unhealthy = subprocess.run(
        command, env=environment, timeout=DEADLINE_S, check=False, capture_output=True, text=True
    )
    assert (unhealthy.returncode, unhealthy.stderr[:9]) == (1, "not ready")
    assert sorted(image.folder.rglob("*")) == before
