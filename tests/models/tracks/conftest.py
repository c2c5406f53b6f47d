from pathlib import Path

import pytest

from models.radio.path_table import PathTable, take_users
from models.radio.tracing import table_path, walks_path
from tests.models.conftest import DATA


@pytest.fixture
def tracks_recipe() -> dict:
    """The content of a recipe in a size that a test can train."""
    return {
        "family": "tracks",
        "name": "small",
        "version": "1",
        "seed": 1,
        "artifact": "mateformer",
        "radio": {
            "array": {"rows": 1, "columns": 32},
            "subcarriers": 32,
            "bandwidth": 40e6,
            "wavefronts": "spherical",
        },
        "carrier_frequency": 3.5e9,
        "cells": {"train": ["etoile:900"], "validation": ["etoile:901"], "test": ["etoile:902"], "references": 150},
        "draws": {
            "each": 1,
            "calibrated": 1,
            "street": 1.0,
            "worst": {"snr_db": 10},
            "known": 1.0,
            "accuracy": [0.5, 20.0],
        },
        "model": {"streams": 256, "width": 16, "depth": 1, "hidden": 16, "heads": 2},
        "tracks": 8,
        "optimiser": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "gradient_clip": 1.0,
            "schedule": "cosine",
            "warmup_steps": 2,
            "steps": 5,
            "loss": "relative",
            "average": 0.5,
        },
    }


@pytest.fixture
def paths(tmp_path: Path) -> Path:
    """A traced street; its last users stand in for those of walks."""
    folder = tmp_path / "paths"
    folder.mkdir()
    table = PathTable.load(table_path(DATA, "etoile", 900))
    for seed in (900, 901, 902):  # one street three times: these tests are not about accuracy
        table.save(table_path(folder, "etoile", seed))
        take_users(table, 200, 240).save(walks_path(folder, "etoile", seed))
    return folder
