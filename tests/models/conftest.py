"""A small traced cell: 250 users of Sionna RT's etoile, seed 900. No recipe trains on it or reports it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.mateformer.recipe import MateformerRecipe
from models.radio.path_table import PathTable
from models.radio.tracing import band_folder, table_path
from models.scadf_moe.recipe import ScadfMoERecipe

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other make such small steps ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def table() -> PathTable:
    return PathTable.load(DATA / "etoile-0900.paths.safetensors")


@pytest.fixture(scope="session")
def mateformer_recipe() -> MateformerRecipe:
    """A Mateformer recipe like the shipped one, in a size that a test can train."""
    return MateformerRecipe.model_validate(
        {
            "family": "mateformer",
            "name": "small",
            "version": "1",
            "seed": 7,
            "radio": {
                "array": {"rows": 1, "columns": 8},
                "subcarriers": 8,
                "carrier_frequency": 3.5e9,
                "bandwidth": 40e6,
                "wavefronts": "spherical",
            },
            "views": {
                "each": 2,
                "own": 0.5,
                "columns": [4, 8],
                "rows": [1, 2],
                "polarisations": [1],
                "antennas": 8,
                "subcarriers": [8, 12],
                "period": 1e-7,
            },
            "cells": {
                "train": ["etoile:900"],
                "validation": ["etoile:900"],
                "test": ["etoile:900"],
                "references": 200,
            },
            "model": {"width": 16, "depth": 2, "hidden": 16, "heads": 2},
            "batch": {
                "neighbourhoods": 4,
                "known": [8, 12],
                "to_infer": 4,
                "coarse_sigma": [0.5, 2.0],
                "thinning": 3.0,
                "stray": 0.1,
                "lines": 0.2,
                "mislabelled": 0.3,
                "label_sigma": 1.0,
            },
            "symmetry": {"rotate": True, "mirror": True, "ramps": True, "reverse": 0.5},
            "radios": {
                "impaired": 0.3,
                "apart": 0.1,
                "surveyed": 0.1,
                "free": 0.1,
                "free_timing": 5e-8,
                "unknown": 0.3,
                "worst": {"snr_db": 15, "phase": True, "timing_s": 2e-8, "dead_antennas": 1},
            },
            "fixes": {"known": 0.5, "accuracy": [0.5, 5.0], "urban": 0.3},
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
            "ranges": {
                "antennas": {"minimum": 4, "maximum": 8},
                "rows": {"minimum": 1, "maximum": 2},
                "columns": {"minimum": 4, "maximum": 8},
                "polarisations": {"minimum": 1, "maximum": 1},
                "spacing": {"minimum": 0.45, "maximum": 0.6},
                "subcarriers": {"minimum": 8, "maximum": 12},
                "bandwidth": {"minimum": 20e6, "maximum": 100e6},
                "carrier_frequency": {"minimum": 2e9, "maximum": 30e9},
            },
        }
    )


@pytest.fixture(scope="session")
def bands(table: PathTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of path tables of three bands: the same paths with gains scaled by the wavelength."""
    folder = tmp_path_factory.mktemp("bands")
    for carrier in (2.6e9, 6e9, 28e9):
        path = table_path(band_folder(folder, carrier), "etoile", 900)
        path.parent.mkdir()
        site = replace(table.site, carrier_frequency=carrier)
        replace(table, site=site, gain=table.gain * (table.site.carrier_frequency / carrier)).save(path)
    return folder


@pytest.fixture(scope="session")
def scadf_moe_recipe() -> ScadfMoERecipe:
    """A SCADF-MoE recipe in a size that a test can train. 250 users in a street are 3 m apart."""
    return ScadfMoERecipe.model_validate(
        {
            "family": "scadf-moe",
            "name": "small",
            "version": "1",
            "seed": 7,
            "radio": {"array": {"rows": 1, "columns": 4}, "subcarriers": 16, "bandwidth": 50e6},
            "layout": "etoile:900",
            "train_bands": [2.6e9, 28e9],
            "test_bands": [6e9],
            "sampling": {"length": 3, "radius": 8.0, "cluster": 5, "held_out": 0.2, "tested": 40},
            "path_features": "exact",
            "fusion": "scadf-moe",
            "model": {"tokens": 2, "width": 16, "heads": 2, "blocks": 1, "experts": 3, "hidden": 16},
            "batch": 8,
            "phase": True,
            "diversity": 0.1,
            "optimiser": {
                "name": "adamw",
                "learning_rate": 3e-3,
                "weight_decay": 0.01,
                "gradient_clip": 1.0,
                "schedule": "cosine",
                "warmup_steps": 5,
                "steps": 60,
                "loss": "mse",
                "average": 0.0,
            },
        }
    )
