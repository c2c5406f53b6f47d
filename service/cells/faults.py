"""The cells that cannot be read or followed, by name."""

import logging
from typing import NamedTuple

from reference_db.errors import ReferenceDatabaseError, StoreUnavailable
from service.errors import CellUnreadable, ServiceError, StoreDown
from service.telemetry.fault_metrics import FaultMetrics

_log = logging.getLogger("fingerpost.cells")

_MOST = 10_000  # cells; more are not told apart


class CellFault(NamedTuple):
    """`digest` is that of the manifest of the version at fault; None where it is unknown."""

    cause: str
    detail: str
    digest: str | None


class CellFaults:
    """Logs and counts each fault once, until it is over. For the event loop's thread."""

    def __init__(self, metrics: FaultMetrics) -> None:
        self._metrics = metrics
        self._faults: dict[str, CellFault] = {}

    def all(self) -> dict[str, CellFault]:
        """The faults by cell."""
        return dict(self._faults)

    def record(self, cell_id: str, fault: CellFault) -> None:
        before = self._faults.get(cell_id)
        if before == fault or (before is None and len(self._faults) >= _MOST):
            return
        self._faults[cell_id] = fault
        self._metrics.show({name: one.cause for name, one in self._faults.items()})
        _log.warning("cell %s: %s: %s", cell_id, fault.cause, fault.detail)

    def clear(self, cell_id: str) -> None:
        """Call when the current version of the cell could be read as a whole, or when the cell is gone."""
        if self._faults.pop(cell_id, None) is not None:
            self._metrics.show({name: one.cause for name, one in self._faults.items()})
            _log.info("cell %s: the fault is over", cell_id)

    def note_current(self, cell_id: str, digest: str | None) -> None:
        """Call when the cell's manifest could be read. A fault of the segments of this very version stays."""
        fault = self._faults.get(cell_id)
        if fault is not None and (digest is None or fault.digest != digest):
            self.clear(cell_id)


def describe_fault(error: ReferenceDatabaseError, digest: str | None = None) -> CellFault:
    """The fault of a cell about which the store raised `error`."""
    if isinstance(error, StoreUnavailable):  # its text names hosts
        return CellFault(StoreDown.cause, "the part of the reference database with this cell cannot be reached", digest)
    return CellFault(CellUnreadable.cause, str(error), digest)


def describe_service_fault(error: ServiceError, digest: str | None) -> CellFault:
    """As `describe_fault`, for an error that `translate_store_errors` has raised."""
    if isinstance(error.__cause__, ReferenceDatabaseError):
        return describe_fault(error.__cause__, digest)
    return CellFault(error.cause, error.detail, digest)
