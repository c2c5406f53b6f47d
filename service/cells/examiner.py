"""Indexes versions of cells, and measures how well users are located in them."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents
from service.cells.calibration import Calibration, calibrate, label_errors
from service.cells.canary import Canary, run_canary
from service.inference.engine import MateformerEngine
from service.settings import Settings


class Examiner(Protocol):
    """Methods block for seconds, and any thread may call them.

    They raise `OutOfMemory`, `ExaminerEnded` where the work is done in a process of its own, and all but `assemble`
    `InferenceFailed`.
    """

    def assemble(self, contents: Contents, before: CellVersion | None) -> CellVersion:
        """As `CellVersion.assemble`."""

    def run_canary(self, engine: MateformerEngine, version: CellVersion, before: CellVersion | None) -> Canary:
        """As `canary.run_canary`, with the seed of the settings."""

    def calibrate(self, engine: MateformerEngine, version: CellVersion) -> Calibration:
        """As `calibration.calibrate`."""

    def measure_errors(
        self, engine: MateformerEngine, version: CellVersion, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The errors in metres `[n]` of fingerprints `rows` `[n]`, each left out: see `calibration.label_errors`."""


class LocalExaminer:
    """Examines in the calling thread, on the engine's background session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def assemble(self, contents: Contents, before: CellVersion | None) -> CellVersion:
        return CellVersion.assemble(contents, before)

    def run_canary(self, engine: MateformerEngine, version: CellVersion, before: CellVersion | None) -> Canary:
        return run_canary(engine.estimator, version, before, self._settings.calibration_seed)

    def calibrate(self, engine: MateformerEngine, version: CellVersion) -> Calibration:
        return calibrate(engine.artifact, engine.estimator, version, self._settings)

    def measure_errors(
        self, engine: MateformerEngine, version: CellVersion, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return label_errors(engine.estimator, version, version, rows, left_out=True)
