"""A cell ready to serve."""

import logging
from typing import NamedTuple

from reference_db.cell_version import CellVersion
from service.cells.calibration import Calibration, calibrate, check_serves
from service.cells.canary import check_no_worse
from service.errors import ArtifactRefused, OutOfMemory, ServiceError
from service.inference.engine import Engine
from service.settings import Settings

_log = logging.getLogger("fingerpost.cells")


class ServedCell(NamedTuple):
    """A version of a cell, the engine that locates users in it, and its errors there.

    A request holds one from end to end.
    """

    version: CellVersion
    engine: Engine
    calibration: Calibration


def prepared(version: CellVersion, engine: Engine, settings: Settings) -> ServedCell:
    """Calibrated, now if it has not been. Raises what `calibrate` raises."""
    calibration = Calibration.of_quality(version.manifest.quality, engine.artifact.digest)
    if calibration is None or calibration.confidence != settings.confidence:
        _log.warning("cell %s is not calibrated for this artifact: doing it now", version.cell.cell_id)
        calibration = calibrate(engine.artifact, engine.estimator, version, settings)
    return ServedCell(version, engine, calibration)


def moved(cell: ServedCell, engine: Engine, settings: Settings, *, force: bool) -> ServedCell:
    """The same version with another engine, its tiles in use encoded.

    Raises `ArtifactRefused` where users cannot be, or, unless forced, would be located far worse; or `OutOfMemory`.
    """
    try:
        check_serves(engine.artifact, cell.version.manifest, settings.confidence)
        found = prepared(cell.version, engine, settings)
        if not force:
            check_no_worse(cell.calibration, found.calibration)
        engine.estimator.warm(cell.version, cell.engine.estimator.in_use(cell.version))
    except OutOfMemory:
        raise
    except ServiceError as error:
        raise ArtifactRefused(f"cell {cell.version.cell.cell_id}: {error.reason}") from error
    return found
