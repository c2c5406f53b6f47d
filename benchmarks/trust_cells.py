"""Cells of the trust benchmark: traced streets as a radio sees them, surveyed, calibrated and served."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fingerpost.wire import LocateRequest
from models.artifact import MateformerArtifact, MateformerManifest, load_artifact
from models.mateformer.conditions import STREET
from models.mateformer.designs import find_design
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import observe_cell
from models.radio.impairments import Impairments, impair
from models.radio.path_table import PathTable
from models.radio.survey import LABEL_SIGMA_M, describe_cell
from models.radio.tracing import table_path
from reference_db import CellVersion, Fingerprints, Origin, replace_cell
from reference_db.cell import Cell
from service.cells.calibration import calibrate
from service.cells.served_cell import ServedCell
from service.inference.engine import MateformerEngine, start_engine
from service.inference.user import Estimate
from service.locating.coarse_position import Fix
from service.locating.users import LocatedUser, PlacedUser, ReadUser
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

CLEAN = Impairments()
STO = STREET.timing_s / np.sqrt(3)  # 1 sigma

_Csi = NDArray[np.complex64]
_Floats = NDArray[np.float32]


def at_snr(snr_db: float) -> Impairments:
    return Impairments(snr_db=snr_db, phase=True)


class Street(NamedTuple):
    """The users of one site that a path reaches, as a perfect radio sees them: CSI `[n, antennas, subcarriers]`."""

    name: str
    cell: Cell
    csi: _Csi
    positions: _Floats  # [n, 2] metres

    @classmethod
    def load(cls, place: str, seed: int, design: str, recipe: MateformerRecipe, paths: Path) -> Street:
        """Raises `FileNotFoundError` for a site that was not traced. Its users come in a random order."""
        table, chosen = PathTable.load(table_path(paths, place, seed)), find_design(design, recipe)
        seen = observe_cell(table, chosen.radio, table.site.yaw)
        order = np.random.default_rng(seed).permutation(len(seen.positions))
        cell = describe_cell(table.site, chosen.radio.array, chosen.radio.subcarriers, chosen.radio.bandwidth)
        return cls(f"{table.site.name} {design}", cell, seen.csi[order], seen.positions[order].astype(np.float32))

    def through(self, radio: Impairments, rows: slice, seed: int) -> _Csi:
        """What the radio reports of some users."""
        clean = torch.from_numpy(self.csi[rows])
        seen: _Csi = impair(clean, radio, self.cell.bandwidth, torch.Generator().manual_seed(seed)).numpy()
        return seen.astype(np.complex64)


class Bench(NamedTuple):
    """The engine that locates, and the settings of a service."""

    engine: MateformerEngine
    settings: Settings

    @classmethod
    def start(cls, **settings: object) -> Bench:
        chosen = Settings.model_validate({"inference_threads": 1, **settings})
        artifact = load_artifact(chosen.artifact_directory, MateformerManifest)
        return cls(start_engine(artifact, chosen, Metrics()), chosen)

    @property
    def artifact(self) -> MateformerArtifact:
        return self.engine.artifact

    def recipe(self) -> MateformerRecipe:
        return MateformerRecipe.load(self.artifact.directory / "recipe.yaml")

    def serve(
        self,
        street: Street,
        rows: slice,
        survey: Impairments,
        sto: tuple[float | None, float | None],
    ) -> ServedCell:
        """The cell with these users as fingerprints. `sto`: stated of survey and users, 1 sigma in seconds."""
        cell = street.cell.model_copy(update={"survey_sto": sto[0], "user_sto": sto[1]})
        csi, positions = street.through(survey, rows, 1), street.positions[rows]
        n = len(positions)
        survey_of = Fingerprints(csi, positions, np.zeros(n), np.full(n, LABEL_SIGMA_M, np.float32))
        update = replace_cell(None, cell, survey_of, Origin("benchmark", datetime.now(UTC)))
        version = CellVersion.assemble(update.contents)
        calibration = calibrate(self.artifact, self.engine.estimator, version, self.settings)
        return ServedCell(version, self.engine, calibration)

    def locate(self, served: ServedCell, csi: _Csi, coarse: _Floats, accuracy: float) -> list[LocatedUser | Exception]:
        """Users with coarse positions `[n, 2]` (NaN: none) of this 1-sigma error, as `POST /locate` locates them."""
        pairs = np.ascontiguousarray(csi)[..., np.newaxis].view(np.float32)
        placed = [
            PlacedUser(
                ReadUser(LocateRequest.model_construct(), snapshot),
                served,
                Fix(float(place[0]), float(place[1]), accuracy) if np.isfinite(accuracy) else None,
            )
            for snapshot, place in zip(pairs, coarse, strict=True)
        ]
        most, located = self.settings.inference_batch, list[LocatedUser | Exception]()
        for first in range(0, len(placed), most):
            some = placed[first : first + most]
            users = [one.for_estimator() for one in some]
            found = self.engine.session.submit(self.engine.estimator.locate, users, Stopwatch()).result()
            located += [
                LocatedUser(one, estimate) if isinstance(estimate, Estimate) else estimate
                for one, estimate in zip(some, found, strict=True)
            ]
        return located


def draw_fixes(truth: _Floats, sigma: float | None, seed: int) -> tuple[_Floats, float]:
    """Coarse positions of users at `truth` `[n, 2]`, metres, and their 1-sigma error; NaN without fixes."""
    if sigma is None:
        return np.full_like(truth, np.nan), float("nan")
    blur = np.random.default_rng(seed).standard_normal(truth.shape)
    return (truth + sigma * blur).astype(np.float32), sigma


def measure_ellipses(
    located: Sequence[LocatedUser | Exception], truth: _Floats, confidences: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of the users answered: whether they are inside their ellipse at each confidence, `[n, c]`, and its areas."""
    inside, areas = [], []
    for one, place in zip(located, truth, strict=True):
        if not isinstance(one, LocatedUser):
            continue
        uncertainty = one.uncertainty
        error = place - one.estimate.position
        distance = float(np.sqrt(error @ np.linalg.solve(uncertainty.covariance, error)))
        root = float(np.sqrt(np.linalg.det(uncertainty.covariance)))
        scales = [uncertainty.scales.at(confidence) for confidence in confidences]
        inside.append([distance <= scale.factor for scale in scales])
        areas.append([np.pi * root * scale.factor**2 for scale in scales])
    return np.array(inside), np.array(areas)
