"""The files of a release, built from a commit alone: wheels, source distribution and the context of the images.

The same commit gives the same bytes: files have the commit's time, and what git does not track is not there.
"""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What the Dockerfile reads. `tests/deploy/test_release.py` compares.
IMAGE_SOURCES = (
    *("Dockerfile", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"),
    *("deploy/docker", "deploy/haproxy", "fingerpost", "models", "reference_db", "service"),
)
# Relative to the repository: the project of each distribution, and in which forms it is built.
_PROJECTS = ((".", ("wheel", "sdist")), ("models/artifacts", ("wheel",)))


class UncommittedChanges(Exception):
    """The work tree differs from the commit."""


class Unequal(Exception):
    """Two builds of one commit differ."""


def check_committed() -> None:
    """Raises `UncommittedChanges` where tracked files differ from HEAD: a release is built from a commit."""
    changed = _git("status", "--porcelain", "--untracked-files=no").decode().split("\n")[:-1]
    if changed:
        raise UncommittedChanges(f"commit these first: {', '.join(line[3:] for line in changed)}")


def build_twice(folder: Path, version: str) -> list[Path]:
    """Builds HEAD into the folder, and again elsewhere. Raises `Unequal` where a byte differs."""
    with tempfile.TemporaryDirectory() as again:
        first, second = (build(where, version) for where in (folder, Path(again)))
        differing = [one.name for one, other in zip(first, second, strict=True) if digest(one) != digest(other)]
    if differing:
        raise Unequal(f"two builds of one commit differ: {', '.join(differing)}")
    return first


def build(folder: Path, version: str) -> list[Path]:
    """Builds HEAD into the folder. Returns the files in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch = int(_git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as archive:
            archive.extractall(source, filter="data")
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
        for project, targets in _PROJECTS:
            command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder.resolve())]
            command += [word for target in targets for word in ("--target", target)]
            subprocess.run(command, check=True, cwd=source / project, env=environment, stdout=subprocess.DEVNULL)
    context = _git("archive", "HEAD", "--", *IMAGE_SOURCES)
    image = folder / f"fingerpost-{version}-images.tar.gz"
    image.write_bytes(gzip.compress(context, mtime=epoch))
    return sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])


def digest(file: Path) -> str:
    """The sha256 of a file, hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_checksums(folder: Path) -> Path:
    """Writes SHA256SUMS, which `sha256sum --check` reads, of all files in the folder."""
    sums = folder / "SHA256SUMS"
    files = sorted(path for path in folder.iterdir() if path.is_file() and path != sums)
    sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in files))
    return sums


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout
