"""A cell ready to serve: its version, its engine and its calibration."""

import logging
from typing import NamedTuple

from reference_db.cell_version import CellVersion
from service.cells.calibration import Calibration, check_serves
from service.cells.examiner import Examiner
from service.errors import ArtifactRefused, ExaminerEnded, OutOfMemory, ServiceError
from service.inference.engine import MateformerEngine
from service.settings import Settings

_log = logging.getLogger("fingerpost.cells")


class ServedCell(NamedTuple):
    """A version of a cell, the engine that locates users in it, and the errors that it makes there.

    A request holds one from start to end.
    """

    version: CellVersion
    engine: MateformerEngine
    calibration: Calibration

    @property
    def resident_bytes(self) -> int:
        """Memory that the cell takes, without frames."""
        return self.engine.estimator.resident_bytes(self.version)


def prepare_cell(version: CellVersion, engine: MateformerEngine, examiner: Examiner, settings: Settings) -> ServedCell:
    """Returns the cell ready to serve; calibrates it unless its manifest holds a calibration for this artifact.

    Raises what `calibrate` raises.
    """
    calibration = Calibration.of_quality(version.manifest.quality, engine.artifact.digest)
    if calibration is None or calibration.confidence != settings.confidence:
        _log.warning("cell %s: no calibration for this artifact and confidence; calibrating now", version.cell.cell_id)
        calibration = examiner.calibrate(engine, version)
    engine.estimator.prepare(version)
    calibration.ellipses.prepare()
    return ServedCell(version, engine, calibration)


def move_cell(cell: ServedCell, engine: MateformerEngine, examiner: Examiner, settings: Settings) -> ServedCell:
    """Returns the same version served by another engine, with the tiles in use already encoded.

    Raises `ArtifactRefused` when the engine cannot locate users in the cell. Raises `OutOfMemory` or `ExaminerEnded`.
    """
    try:
        check_serves(engine.artifact, cell.version.manifest, settings.confidence)
        moved = prepare_cell(cell.version, engine, examiner, settings)
        engine.estimator.ahead.warm_tiles(cell.version, cell.engine.estimator.ahead.tiles_in_use(cell.version))
    except (OutOfMemory, ExaminerEnded):
        raise
    except ServiceError as error:
        raise ArtifactRefused(f"cell {cell.version.cell.cell_id}: {error.reason}") from error
    return moved
