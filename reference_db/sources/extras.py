"""Packages that read foreign formats. They come with the extra `matlab`."""

from importlib import import_module
from pathlib import Path
from typing import Any

from reference_db.errors import BadFingerprintFile


def import_reader(name: str, path: Path) -> Any:
    """The module `name`. Raises `BadFingerprintFile` if its package is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BadFingerprintFile(
            f"reading {path.suffix.lower()} files needs the package {package}: pip install 'fingerpost[matlab]'"
        ) from error
