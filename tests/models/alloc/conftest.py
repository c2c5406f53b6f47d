"""One traced street of 250 users, as several scenarios."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from models.alloc.streets import StreetOf
from models.radio.path_table import PathTable
from models.radio.tracing import band_folder, table_path

DATA = Path(__file__).parents[1] / "data"
CELL = "etoile:900"

OPTIMISER = {
    "name": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "gradient_clip": 1.0,
    "schedule": "cosine",
    "warmup_steps": 2,
    "steps": 6,
    "loss": "mse",
    "average": 0.5,
}
SMALL = {"width": 16, "depth": 1, "hidden": 16, "heads": 2}


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path tables of the street when bare, with cars (then its users are the same), and at 60 GHz."""
    folder = tmp_path_factory.mktemp("paths")
    shutil.copy(table_path(DATA, "etoile", 900), folder)
    shutil.copy(table_path(DATA, "etoile", 900), table_path(folder, "etoile", 900, street="cars"))
    table = PathTable.load(table_path(DATA, "etoile", 900))
    band = band_folder(folder, 60e9)
    band.mkdir()
    replace(table, site=replace(table.site, carrier_frequency=60e9)).save(table_path(band, "etoile", 900))
    return folder


@pytest.fixture
def rivals() -> dict:
    """The content of a file of methods in a size that a test can train."""
    trained = {"batch": 4, "optimiser": OPTIMISER}
    return {
        "family": "alloc",
        "radio": {"array": {"rows": 1, "columns": 8}, "subcarriers": 16, "bandwidth": 40e6, "wavefronts": "spherical"},
        "carrier_frequency": 3.5e9,
        "users": 20,
        "methods": {
            "fix": {"task": "fix", "label": "coarse position"},
            "knn": {"task": "neighbours", "label": "kNN"},
            "cnn": {"task": "snapshot", "label": "CNN", **trained},
            "mfcnet": {"task": "snapshot", "label": "MFCNet", "input": "carriers", **trained},
            "multi-task": {"task": "snapshot", "label": "AD_CNN", "input": "angle-delay", "tasks": True, **trained},
            "alloc": {"task": "analogy", "label": "ALLoc", "model": SMALL, **trained},
            "alloc-random": {
                "task": "analogy",
                "label": "ALLoc, random",
                "sampling": "random",
                "model": SMALL,
                **trained,
            },
            "alloc-iterative": {"task": "chain", "label": "ALLoc, twice", "chain": ["alloc-random", "alloc"]},
            "icl": {"task": "in-context", "label": "ICLLoc", "model": SMALL, **trained},
            "ra-lwlm": {"task": "retrieval", "label": "RA-LWLM", "model": {"width": 16}, **trained},
            "mateformer": {
                "task": "mateformer",
                "label": "ours",
                "model": SMALL,
                **trained,
                "overrides": {"views.each": 1, "batch.known": [16, 24], "batch.to_infer": 4},
            },
        },
        "budgets": {"small": {"seeds": [1]}, "paper": {"seeds": [1, 2], "overrides": {"methods.cnn.batch": 8}}},
    }


@pytest.fixture
def content() -> dict:
    """The content of an experiment with every kind of method."""
    return {
        "family": "alloc",
        "title": "A trial",
        "base": "rivals.yaml",
        "streets": {"A": {"cell": CELL}, "B": {"cell": CELL, "state": "cars"}},
        "methods": ["fix", "knn", "cnn", "alloc"],
        "lessons": {"own": {"learned": ["the tested street"]}},
        "tested": ["A", "B"],
        "conditions": [{"label": "few", "references": 100}, {"label": "all"}],
    }


@pytest.fixture
def write(rivals: dict, tmp_path: Path) -> Callable[[dict], Path]:
    def write_experiment(content: dict) -> Path:
        (tmp_path / "rivals.yaml").write_text(yaml.safe_dump(rivals, sort_keys=False))
        file = tmp_path / "trial.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    return write_experiment


@pytest.fixture
def street_of() -> StreetOf:
    return StreetOf(cell=CELL)
