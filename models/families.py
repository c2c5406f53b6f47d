"""The model families. A new family adds its package and one line to `FAMILIES`.

A family's package has a module ``cli`` with a Typer app, and folders ``recipes`` and ``experiments`` of YAML files.
Packages are imported when a command needs them, because they import torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import typer

from models.artifact import MANIFEST_FILE
from models.errors import TrainerError, read_yaml

FAMILIES = {  # the field `family` of recipes, experiments and manifests -> the package
    "mateformer": "mateformer",
    "scadf-moe": "scadf_moe",
    "lwlm": "lwlm",
}
STUDIES = {"alloc": "alloc", "tracks": "tracks"}  # as above: they stand on a family, and have no artifact of their own

PACKAGE = Path(__file__).parent


class UnknownFamily(TrainerError):
    """A recipe, experiment or artifact names no family of `FAMILIES`."""


def load_commands(family: str) -> typer.Typer:
    """The Typer app of a family's package, with its commands ``fit``, ``export`` and so on. Raises `UnknownFamily`."""
    packages = FAMILIES | STUDIES
    if family not in packages:
        raise UnknownFamily(f"unknown family {family!r}: one of {', '.join(packages)}")
    app: typer.Typer = import_module(f"models.{packages[family]}.cli").app
    return app


def read_family(path: Path) -> str:
    """The family of a recipe or experiment (a YAML file) or of an artifact (a folder). Raises `UnknownFamily`."""
    content = read_yaml(path / MANIFEST_FILE if path.is_dir() else path)  # JSON is YAML
    if not isinstance(content, dict) or not isinstance(content.get("family"), str):
        raise UnknownFamily(f"{path} has no field 'family'")
    family: str = content["family"]
    return family


def find_experiments() -> dict[str, Path]:
    """The experiments of all families and studies by name."""
    folders = (FAMILIES | STUDIES).values()
    return {path.stem: path for folder in folders for path in find_yaml(folder, "experiments")}


def find_yaml(folder: str, kind: str) -> list[Path]:
    """The YAML files of a family's package; ``kind`` is ``recipes`` or ``experiments``."""
    return sorted((PACKAGE / folder / kind).glob("*.yaml"))
