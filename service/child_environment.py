"""The environment of processes that run this package again."""

import os
import site
from collections.abc import Mapping
from pathlib import Path

import fingerpost


def environment_of_this_package(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `python -m fingerpost` is the package of this process, not one in its directory."""
    chosen = {**environment, "PYTHONSAFEPATH": "1"}
    place = str(Path(fingerpost.__file__).parents[1])
    if place not in (*site.getsitepackages(), site.getusersitepackages()):
        chosen["PYTHONPATH"] = os.pathsep.join(filter(None, (place, environment.get("PYTHONPATH"))))
    return chosen
