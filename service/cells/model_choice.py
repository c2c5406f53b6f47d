"""Chooses what locates single snapshots in each cell, for each method."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from service.cells.calibration import check_serves
from service.cells.descriptions import DescribedCell
from service.cells.knn_cells import KnnCell, KnnCells
from service.cells.registry import ServedCells
from service.cells.served_cell import ServedCell
from service.cells.stations import Station, Stations, check_allows_station, check_station
from service.errors import NoMeasuringArtifact, ServiceError

C = TypeVar("C")


class ModelChoice:
    """Each method takes cells with deadlines, until when requests wait for them, as moments of `time.monotonic`, and
    returns what serves each cell, or why nothing does. For the event loop's thread.
    """

    def __init__(self, served: ServedCells, knn: KnnCells, stations: Stations | None, confidence: float) -> None:
        self._served = served
        self._knn = knn
        self._stations = stations
        self._confidence = confidence

    async def for_mateformer(self, deadlines: Mapping[str, float]) -> Mapping[str, ServedCell | ServiceError]:
        """All cells returned have the same engine."""
        refused = {cell_id: why for cell_id in deadlines if (why := self._recall_refusal(cell_id)) is not None}
        if not refused:
            return await self._served.serve(deadlines)
        rest = {cell_id: deadline for cell_id, deadline in deadlines.items() if cell_id not in refused}
        return {**refused, **(await self._served.serve(rest) if rest else {})}

    async def for_knn(self, deadlines: Mapping[str, float]) -> Mapping[str, KnnCell | ServiceError]:
        return await _ask_each(self._knn.serve, deadlines)

    async def for_station(self, deadlines: Mapping[str, float]) -> Mapping[str, Station | ServiceError]:
        return await _ask_each(self._find_station, deadlines)

    async def describe(self, deadlines: Mapping[str, float]) -> Mapping[str, DescribedCell | ServiceError]:
        """The cells as they are, whatever serves them."""
        return await _ask_each(self._served.describe, deadlines)

    def _recall_refusal(self, cell_id: str) -> ServiceError | None:
        """Why Mateformer does not serve a cell, if that is known; None where it does, as far as is known."""
        cell = self._served.described.held(cell_id)
        if cell is None or self._served.held(cell_id) is not None:
            return None
        try:
            check_serves(self._served.engine.artifact, cell.version, self._confidence)
        except ServiceError as why:
            return why
        return None

    async def _find_station(self, cell_id: str, deadline: float) -> Station:
        cell = await self._served.describe(cell_id, deadline)
        check_allows_station(cell.version)
        if self._stations is None:
            raise NoMeasuringArtifact("this service has no artifact that measures snapshots")
        engine = self._stations.engine
        check_station(engine.artifact.manifest, cell.version)
        return Station(cell, engine)


async def _ask_each(
    find: Callable[[str, float], Awaitable[C]], deadlines: Mapping[str, float]
) -> dict[str, C | ServiceError]:
    async def find_one(cell_id: str, deadline: float) -> C | ServiceError:
        try:
            return await find(cell_id, deadline)
        except ServiceError as error:
            return error

    found = await asyncio.gather(*(find_one(*one) for one in deadlines.items()))
    return dict(zip(deadlines, found, strict=True))
