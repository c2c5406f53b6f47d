"""Descriptions of the cells that an artifact for trajectories has learned, kept up to date with the store."""

import math
from collections import OrderedDict
from typing import NamedTuple

from models.artifact import TrajectoryManifest
from reference_db.geodesy import LocalFrame
from reference_db.manifest import Manifest
from reference_db.stores.asking import ask_cells
from reference_db.stores.store import Store
from service import errors
from service.background import BlockingCalls
from service.cells.faults import CellFaults, describe_fault
from service.cells.lookups import Lookups

_MOST_HELD = 1024  # descriptions, without fingerprints


class DescribedCell(NamedTuple):
    version: Manifest
    frame: LocalFrame


def check_learned(artifact: TrajectoryManifest, version: Manifest) -> None:
    """Checks that the artifact can locate trajectories in a cell.

    Raises `ModelNotAllowed` when the cell's model policy excludes the artifact, `CellNotServed` when the artifact has
    not learned the cell or its CSI shape, or `BandNotServed`.
    """
    cell, csi = version.cell, artifact.csi
    if version.model == "mateformer":
        raise errors.ModelNotAllowed("/cellId", "the cell's model policy is mateformer: it accepts no trajectories")
    if cell.cell_id not in artifact.cells:
        raise errors.CellNotServed("/cellId", "the artifact for trajectories was not trained on this cell")
    if (cell.antennas, cell.subcarriers) != (csi.antennas, csi.subcarriers):
        raise errors.CellNotServed(
            "/cellId",
            f"the cell's CSI is {cell.antennas} x {cell.subcarriers}, the artifact for trajectories expects "
            f"{csi.antennas} x {csi.subcarriers} (antennas x subcarriers)",
        )
    if not any(math.isclose(cell.carrier_frequency, band, rel_tol=1e-6) for band in artifact.carrier_frequencies):
        bands = ", ".join(f"{band / 1e9:g}" for band in artifact.carrier_frequencies)
        raise errors.BandNotServed(
            "/cellId",
            f"the cell's carrier is {cell.carrier_frequency / 1e9:g} GHz, the artifact for trajectories was trained on "
            f"{bands} GHz",
        )
    if not math.isclose(cell.bandwidth, csi.bandwidth, rel_tol=1e-6):
        raise errors.BandNotServed(
            "/cellId",
            f"the cell's bandwidth is {cell.bandwidth / 1e6:g} MHz, the artifact for trajectories expects "
            f"{csi.bandwidth / 1e6:g} MHz",
        )


class TrajectoryCells:
    """For the event loop's thread."""

    def __init__(self, store: Store, lookups: Lookups, faults: CellFaults) -> None:
        self._store = store
        self._lookups = lookups
        self._faults = faults
        self._held: OrderedDict[str, DescribedCell] = OrderedDict()  # least recently used first
        self._asking = BlockingCalls("descriptions")

    async def describe(self, cell_id: str, deadline: float) -> DescribedCell:
        """Returns a cell as it is now, whether the artifact has learned it or not.

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
