"""The cells whose places an artifact for trajectories has learned, as they are now described."""

import asyncio
import logging
import math
from collections import OrderedDict
from typing import NamedTuple

from models.artifact import TrajectoryManifest
from reference_db.errors import CorruptManifest, ReferenceDatabaseError
from reference_db.geodesy import LocalFrame
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service import errors
from service.cells.store_errors import translate_store_errors
from service.inference.workers import Workers

_log = logging.getLogger("fingerpost.cells")

_MOST_HELD = 1024  # descriptions; no fingerprints go with them


class DescribedCell(NamedTuple):
    version: Manifest
    frame: LocalFrame


def check_learned(artifact: TrajectoryManifest, version: Manifest) -> None:
    """Raises `ModelNotAllowed`, `CellNotServed` or `BandNotServed` unless the artifact may and can locate there."""
    cell, csi = version.cell, artifact.csi
    if version.model == "mateformer":
        raise errors.ModelNotAllowed("/cellId", "the cell's policy is mateformer: no trajectories are located there")
    if cell.cell_id not in artifact.cells:
        raise errors.CellNotServed("/cellId", "none of the cells that the artifact for trajectories has learned")
    if (cell.antennas, cell.subcarriers) != (csi.antennas, csi.subcarriers):
        raise errors.CellNotServed(
            "/cellId",
            f"the cell's CSI is {cell.antennas} x {cell.subcarriers}, that of the artifact for trajectories "
            f"{csi.antennas} x {csi.subcarriers} (antennas x subcarriers)",
        )
    if not any(math.isclose(cell.carrier_frequency, band, rel_tol=1e-6) for band in artifact.carrier_frequencies):
        bands = ", ".join(f"{band / 1e9:g}" for band in artifact.carrier_frequencies)
        raise errors.BandNotServed(
            "/cellId",
            f"the cell's carrier is {cell.carrier_frequency / 1e9:g} GHz, the artifact for trajectories knows {bands}",
        )
    if not math.isclose(cell.bandwidth, csi.bandwidth, rel_tol=1e-6):
        raise errors.BandNotServed(
            "/cellId", f"the cell has {cell.bandwidth / 1e6:g} MHz, the artifact wants {csi.bandwidth / 1e6:g} MHz"
        )


class TrajectoryCells:
    """For the event loop's thread; the store is waited for in threads of its own."""

    def __init__(self, store: Store, waiting_limit: int) -> None:
        self._store = store
        self._held: OrderedDict[str, DescribedCell] = OrderedDict()  # least recently used first
        self._threads = Workers("descriptions", 2, waiting_limit)

    async def described(self, cell_id: str) -> DescribedCell:
        """A cell as it is now, whether it was learned or not.

        Raises `CellNotFound`, what `translate_store_errors` makes of the store's errors, and `Congested` where too
        many wait for the store.
        """
        found = self._held.get(cell_id)
        if found is None:
            found = self._held[cell_id] = await self._threads.run(self._described, cell_id)
            if len(self._held) > _MOST_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(cell_id)
        return found

    def tell(self, cell_id: str) -> None:
        """There is a new version of a cell."""
        self._held.pop(cell_id, None)

    async def follow(self, period_s: float) -> None:
        """Forgets cells that have changed, for ever, whether it is told of them or not."""
        while True:
            await asyncio.sleep(period_s)
            held = {cell_id: cell.version.number for cell_id, cell in self._held.items()}
            try:
                changed = await self._threads.run(self._changed, held)
            except (ReferenceDatabaseError, errors.Congested) as error:
                _log.debug("cells' descriptions stay as they are: %s", error)  # others complain of an absent store
                continue
            for cell_id in changed:
                self.tell(cell_id)

    def close(self) -> None:
        self._threads.close()

    def _described(self, cell_id: str) -> DescribedCell:
        with translate_store_errors():
            manifest = self._store.current(cell_id)
        if manifest is None:
            raise errors.CellNotFound("/cellId", "no such cell")
        return DescribedCell(manifest, LocalFrame(manifest.cell.latitude_deg, manifest.cell.longitude_deg))

    def _changed(self, held: dict[str, int]) -> list[str]:
        changed = []
        for cell_id, number in held.items():
            try:
                if self._store.newest(cell_id) != number:
                    changed.append(cell_id)
            except CorruptManifest as error:  # one damaged cell must not keep the others from being followed
                _log.warning("%s", error)
        return changed
