"""Descriptions of cells without their fingerprints, kept up to date with the store."""

from collections import OrderedDict
from typing import NamedTuple

from reference_db.geodesy import LocalFrame
from reference_db.manifest import Manifest
from reference_db.stores.asking import ask_cells
from reference_db.stores.store import Store
from service.background import BlockingCalls
from service.cells.faults import CellFaults, describe_fault
from service.cells.lookups import Lookups

_MOST_HELD = 1024


class DescribedCell(NamedTuple):
    version: Manifest
    frame: LocalFrame


class DescribedCells:
    """For the event loop's thread."""

    def __init__(self, store: Store, lookups: Lookups, faults: CellFaults) -> None:
        self._store = store
        self._lookups = lookups
        self._faults = faults
        self._held: OrderedDict[str, DescribedCell] = OrderedDict()  # least recently used first
        self._asking = BlockingCalls("descriptions")

    def held(self, cell_id: str) -> DescribedCell | None:
        """A cell whose description is in memory."""
        return self._held.get(cell_id)

    async def describe(self, cell_id: str, deadline: float) -> DescribedCell:
        """Returns a cell as it is now, whether any model serves it or not.

        Raises what `Lookups.find` raises.
        """
        found = self._held.get(cell_id)
        if found is None:
            manifest = await self._lookups.find(cell_id, deadline)
            frame = LocalFrame(manifest.cell.latitude_deg, manifest.cell.longitude_deg)
            found = self._held[cell_id] = DescribedCell(manifest, frame)
            if len(self._held) > _MOST_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(cell_id)
        return found

    def notify(self, cell_id: str) -> None:
        """Call when a cell has a new version."""
        self._held.pop(cell_id, None)

    async def follow(self) -> None:
        """Drops descriptions of cells that have changed in the store. Raises `StoreUnavailable` or `JobFailed`."""
        held = {cell_id: cell.version.digest for cell_id, cell in self._held.items()}
        newest, faults = await self._asking.run(ask_cells, self._store, self._store.newest, held)
        for cell_id, error in faults.items():
            self._faults.record(cell_id, describe_fault(error))
        for cell_id, digest in newest.items():
            if digest != held[cell_id]:
                self.notify(cell_id)
