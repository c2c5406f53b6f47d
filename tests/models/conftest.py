"""A small real cell: 250 users of Sionna RT's etoile, seed 900, which no recipe trains on or reports."""

from pathlib import Path

import pytest

from models.radio.path_table import PathTable
from models.training.recipe import Recipe

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def table() -> PathTable:
    return PathTable.load(DATA / "etoile-0900.paths.safetensors")


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """The shipped recipe's shape in a size that a test can train."""
    return Recipe.model_validate(
        {
            "name": "small",
            "version": "1",
            "seed": 7,
            "radio": {
                "array": {"rows": 1, "columns": 8},
                "subcarriers": 8,
                "carrier_frequency": 3.5e9,
                "bandwidth": 40e6,
                "yaws": 2,
            },
            "cells": {
                "train": ["etoile:900"],
                "validation": ["etoile:900"],
                "test": ["etoile:900"],
                "references": 200,
            },
            "model": {
                "width": 16,
                "depth": 2,
                "hidden": 16,
                "heads": 2,
                "raw": False,
                "angle_delay": 1.5,
                "coarse": True,
            },
            "batch": {
                "neighbourhoods": 4,
                "known": [8, 12],
                "to_infer": 4,
                "coarse_sigma": [0.5, 2.0],
                "spread": [1.0, 2.0],
                "stray": 0.1,
            },
            "symmetry": {"rotate": True, "mirror": True, "ramps": True, "reverse": 0.5, "conjugate": 0.3},
            "radios": {"impaired": 0.5, "worst": {"snr_db": 15, "phase": True, "timing_s": 2e-8, "dead_antennas": 1}},
            "fixes": {"known": 0.5, "accuracy": [0.5, 5.0]},
            "optimiser": {
                "name": "adamw",
                "learning_rate": 2e-3,
                "weight_decay": 0.01,
                "gradient_clip": 1.0,
                "schedule": "cosine",
                "warmup_steps": 5,
                "steps": 40,
                "loss": "distance",
                "average": 0.9,
            },
            "retrieval": {"neighbourhood_size": 16, "minimum_neighbours": 8, "passes": 2},
        }
    )
