"""What ``make release`` builds. The target itself tries it in clean environments, which takes minutes."""

import hashlib
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.release.build import IMAGE_SOURCES, build_twice, write_checksums
from deploy.release.environments import PYTHONS
from fingerpost import __version__
from tests.deploy.dockerfile import ROOT, read_stages, sent_to_the_builder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a release of HEAD by name. Building them twice gave the same bytes, or `Unequal`."""
    return {path.name: path for path in build_twice(tmp_path_factory.mktemp("dist"), __version__)}


def test_a_release_has_two_wheels_a_source_distribution_and_the_context_of_the_images(files: dict[str, Path]) -> None:
    committed = subprocess.run(
        ["git", "show", "HEAD:fingerpost/__init__.py"], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    version = committed.rpartition('__version__ = "')[2].partition('"')[0]
    models = [name for name in files if name.startswith("fingerpost_models-") and name.endswith(".whl")]
    assert len(models) == 1
    assert set(files) - set(models) == {
        f"fingerpost-{version}-py3-none-any.whl",
        f"fingerpost-{version}.tar.gz",
        f"fingerpost-{__version__}-images.tar.gz",
    }


def test_the_context_of_the_images_has_what_the_dockerfile_copies(files: dict[str, Path]) -> None:
    with tarfile.open(files[f"fingerpost-{__version__}-images.tar.gz"]) as archive:
        names = {member.name for member in archive if member.isfile()}
    copied = [name for line in read_stages()["source"].arguments("COPY") for name in line.split()[:-1]]
    assert set(IMAGE_SOURCES) == {"Dockerfile", *copied}
    assert all(any(name == one or name.startswith(f"{one}/") for name in names) for one in IMAGE_SOURCES)
    assert all(name == "Dockerfile" or sent_to_the_builder(name) for name in names)


def test_wheel_and_source_distribution_have_the_configuration_of_haproxy(files: dict[str, Path]) -> None:
    """`fingerpost serve --workers N` runs HAProxy with it."""
    committed = subprocess.run(
        ["git", "show", "HEAD:deploy/haproxy/haproxy.cfg"], check=True, cwd=ROOT, capture_output=True
    ).stdout
    with zipfile.ZipFile(files[f"fingerpost-{__version__}-py3-none-any.whl"]) as wheel:
        assert wheel.read("fingerpost/_server/service/workers/haproxy.cfg") == committed
    with tarfile.open(files[f"fingerpost-{__version__}.tar.gz"]) as archive:
        file = archive.extractfile(f"fingerpost-{__version__}/deploy/haproxy/haproxy.cfg")
        assert file is not None
        assert file.read() == committed


def test_files_have_the_time_of_the_commit(files: dict[str, Path]) -> None:
    stamp = subprocess.run(["git", "log", "-1", "--format=%ct"], check=True, cwd=ROOT, capture_output=True).stdout
    with tarfile.open(files[f"fingerpost-{__version__}-images.tar.gz"]) as archive:
        assert {member.mtime for member in archive} == {int(stamp)}
    wheels = [path for name, path in files.items() if name.endswith(".whl")]
    times = {member.date_time for wheel in wheels for member in zipfile.ZipFile(wheel).infolist()}
    assert len(times) == 1


def test_checksums_are_those_of_all_files(files: dict[str, Path]) -> None:
    folder = next(iter(files.values())).parent
    lines = write_checksums(folder).read_text().splitlines()
    assert lines == [f"{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}" for name in sorted(files)]


def test_every_python_that_the_package_allows_is_tried() -> None:
    classifiers = (ROOT / "pyproject.toml").read_text()
    assert [version for version in PYTHONS if f"Python :: {version}" in classifiers] == list(PYTHONS)
    assert f'requires-python = ">={PYTHONS[0]},<3.{int(PYTHONS[-1].partition(".")[2]) + 1}"' in classifiers
