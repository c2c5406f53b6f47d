"""Data that others publish, from a folder by two commands to a served cell, which locates points that were held out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from fingerpost import Client
from reference_db import read_fingerprint_file
from reference_db.cell_description import write_description
from service.settings import Settings
from tests.models.deepmimo_scenarios import make_matrices, write_scenario
from tests.reference_db.surveys import make_cell, make_survey
from tests.service.serving import serving

FINGERPOST = (sys.executable, "-m", "fingerpost")
TRAINER = (sys.executable, "-m", "models.cli")
ORIGIN = np.array([300.0, -120.0])
CELLS = ("lab", "campus")
FAST = {"FINGERPOST_CALIBRATION_SAMPLES": "100", "FINGERPOST_CALIBRATION_SIGMAS_M": "[1.0]"}  # a shorter import


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An HDF5 data set as ALLoc's, two snapshots of each point of a grid of 3 m, and a scenario of DeepMIMO."""
    made = tmp_path_factory.mktemp("published")
    cell = make_cell(1, 32, 32)
    x, y = np.meshgrid(np.arange(30.0, 78, 3), np.arange(-24.0, 25, 3))
    points = np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), 2, axis=0)
    survey = make_survey(cell, points, (0.0, -40.0, 120.0, 40.0))
    (made / "indoor").mkdir()
    half = np.random.default_rng(0).permutation(len(points)) % 2 == 0  # published splits part snapshots of one point
    for name, rows in (("train.h5", half), ("test.h5", ~half)):
        with h5py.File(made / "indoor" / name, "w") as file:
            file["data"] = survey.csi[rows]
            file["data_loc"] = np.column_stack([points + ORIGIN, np.ones(len(points))])[rows].astype(np.float32)
    (made / "cell.json").write_text(write_description(cell))
    write_scenario(made / "city", make_matrices(16, 14))
    return made


@pytest.fixture(scope="module")
def served(folder: Path, artifact_directory: Path) -> Iterator[str]:
    """Each cell by two commands."""
    database = folder / "database"
    commands = [
        [
            *FINGERPOST,
            "cells",
            "convert",
            "indoor",
            "--cell-file",
            "cell.json",
            "--cell",
            "lab",
            "--origin",
            "300,-120",
        ],
        [*FINGERPOST, "cells", "import", "lab", "lab-references.safetensors", "--database", database],
        [*TRAINER, "scenes", "deepmimo", "city", "--cell", "campus", "--columns", "16", "--point", "33.4", "-111.9"],
        [*FINGERPOST, "cells", "import", "campus", "campus-references.safetensors", "--database", database],
    ]
    for command in commands:
        words = list(map(str, command))
        done = subprocess.run(words, cwd=folder, env=os.environ | FAST, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    with serving(Settings(port=0, database_directory=database, artifact_directory=artifact_directory)) as url:
        yield url


@pytest.mark.parametrize("name", CELLS)
def test_points_that_were_held_out_are_located_over_http(served: str, folder: Path, name: str) -> None:
    (_, references), (_, users) = (
        read_fingerprint_file(folder / f"{name}-{part}.safetensors") for part in ("references", "users")
    )
    assert not set(map(tuple, users.positions.tolist())) & set(map(tuple, references.positions.tolist()))
    with Client(served) as client:
        located = [client.locate(name, csi) for csi in users.csi[:40]]
    estimates = np.array(
        [[one.local_location_estimate.point.x, one.local_location_estimate.point.y] for one in located]
    )
    errors = np.linalg.norm(estimates - users.positions[:40], axis=1)
    spread = np.linalg.norm(references.positions.mean(axis=0) - users.positions[:40], axis=1)
    assert np.median(errors) < 0.25 * np.median(spread)
