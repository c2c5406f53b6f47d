"""Chooses what locates single snapshots in each cell: its fingerprints, or its base station alone."""

import asyncio
from collections.abc import Mapping

from service.cells.calibration import check_serves
from service.cells.registry import ServedCells
from service.cells.served_cell import ServedCell
from service.cells.stations import NO_FINGERPRINTS, Station, Stations
from service.errors import ServiceError

Chosen = ServedCell | Station


class ModelChoice:
    """Fingerprints come first. The base station stands in where there are too few, or where the model that compares
    with them does not serve the cell, and where the cell's model policy demands it. For the event loop's thread.
    """

    def __init__(self, served: ServedCells, stations: Stations | None, confidence: float) -> None:
        self._served = served
        self._stations = stations
        self._confidence = confidence

    async def choose(self, deadlines: Mapping[str, float]) -> Mapping[str, Chosen | ServiceError]:
        """What locates users in each of these cells, or why nothing does.

        `deadlines`: by cell, until when requests wait for it, as a moment of `time.monotonic`.
        """
        stations = self._stations
        if stations is None:
            return await self._served.serve(deadlines)
        known = {cell_id: one for cell_id in deadlines if (one := self._recall(cell_id, stations)) is not None}
        rest = {cell_id: deadline for cell_id, deadline in deadlines.items() if cell_id not in known}
        if not rest:
            return known
        served = await self._served.serve(rest)
        names = [cell_id for cell_id, cell in served.items() if isinstance(cell, NO_FINGERPRINTS)]
        found = await asyncio.gather(*(self._stand_in(one, served[one], deadlines[one], stations) for one in names))
        return {**known, **served, **dict(zip(names, found, strict=True))}

    def _recall(self, cell_id: str, stations: Stations) -> Station | ServiceError | None:
        """What stands in for a cell's fingerprints, if that is known; None where they serve, as far as is known."""
        cell = stations.cells.held(cell_id)
        if cell is None or self._served.held(cell_id) is not None:
            return None
        try:
            check_serves(self._served.engine.artifact, cell.version, self._confidence)
        except ServiceError as why:
            return stations.stand_in(cell, why)
        return None

    async def _stand_in(
        self, cell_id: str, why: ServedCell | ServiceError, deadline: float, stations: Stations
    ) -> Station | ServiceError:
        assert isinstance(why, ServiceError)
        try:
            return stations.stand_in(await stations.cells.describe(cell_id, deadline), why)
        except ServiceError as error:
            return error
