"""Builds a release into dist/ and tries it. Run by ``make release``."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from deploy.release.build import ROOT, UncommittedChanges, Unequal, build_twice, check_committed, write_checksums
from deploy.release.environments import (
    PYTHONS,
    CheckFailed,
    find_python,
    install_client,
    install_server,
    write_bill,
)
from fingerpost import __version__

_FOLDER = ROOT / "dist"
_PYTHON_OF_THE_IMAGE = "3.12"


def main() -> None:
    try:
        check_committed()
        shutil.rmtree(_FOLDER, ignore_errors=True)
        for built in build_twice(_FOLDER, __version__):
            print(f"built twice, the same bytes: {built.name}, {built.stat().st_size / 1e6:.1f} MB", flush=True)
        with tempfile.TemporaryDirectory() as temporary:
            _try(Path(temporary))
    except (CheckFailed, UncommittedChanges, Unequal) as error:
        sys.exit(f"make release: {error}")
    print(f"checksums: {write_checksums(_FOLDER)}")


def _try(folder: Path) -> None:
    tried = False
    for version in PYTHONS:
        python = find_python(version)
        if python is None:
            print(f"Python {version}: skipped, there is none on this machine", flush=True)
            continue
        client, server = folder / f"client-{version}", folder / f"server-{version}"
        size = install_client(python, client, _FOLDER, __version__)
        print(
            f"Python {version}: `pip install fingerpost` downloads {size.download:.1f} MB, "
            f"{size.installed:.1f} MB installed",
            flush=True,
        )
        install_server(python, server, _FOLDER, __version__)
        print(f"Python {version}: `pip install 'fingerpost[cpu]'` imports a cell and locates users", flush=True)
        tried = True
    if not tried:
        raise CheckFailed(f"none of the Pythons {', '.join(PYTHONS)} is on this machine")
    _write_bills(folder)


def _write_bills(folder: Path) -> None:
    """Of the service's image, which constraints.txt determines: installed from its context, as its Dockerfile does."""
    context, image = folder / "context", folder / "image"
    with tarfile.open(_FOLDER / f"fingerpost-{__version__}-images.tar.gz") as archive:
        archive.extractall(context, filter="data")
    subprocess.run(["sh", "deploy/docker/install.sh", image, "cpu"], check=True, cwd=context)
    bill = _FOLDER / f"fingerpost-{__version__}-service.cdx.json"
    write_bill(image / "bin" / "python3", bill)
    print(f"bill of materials of the service's image: {bill.name}", flush=True)


if __name__ == "__main__":
    main()
