"""The last estimates of a cell, for an operator who watches it.

Positions of people are personal. Nothing is kept unless the settings allow it, and then only in memory, while an
operator asks, without request ids, and only the last few estimates.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from typing import Annotated, Any

from pydantic import Field

from fingerpost.wire import LocalPoint, LocateResponse, UncertaintyEllipse
from fingerpost.wire_model import WireModel
from fingerpost.wire_provenance import Provenance
from service.errors import Congested, WatchingForbidden
from service.updates.history import find_current_version
from service.updates.publisher import Publisher

KEPT = 256  # estimates a cell
WATCHED_S = 10.0  # after an operator's last request
MOST_WATCHED = 16  # cells


class LiveEstimate(WireModel):
    """Metres east and north of the base station, and the ellipse that contains the user with this confidence."""

    number: int
    timestamp_of_location_estimate: datetime
    point: LocalPoint
    uncertainty_ellipse: UncertaintyEllipse
    confidence: int
    coarse_position_used: bool
    cell_version: str
    source: Annotated[str, Field(description="The family of the model that located the user.")]


class LiveEstimates(WireModel):
    """Oldest first. The service keeps the last 256 of a cell."""

    estimates: list[LiveEstimate]
    next: Annotated[int, Field(description="The value of `after` for the next request.")]


class Live:
    """Any thread may call `note`; everything else belongs to the event loop's thread."""

    def __init__(self, publisher: Publisher, *, allowed: bool) -> None:
        self._publisher = publisher
        self._allowed = allowed
        self._kept: dict[str, deque[LiveEstimate]] = {}
        self._leases: dict[str, asyncio.TimerHandle] = {}
        self._numbers = count(1)

    def note(self, answers: Iterable[dict[str, Any]]) -> None:
        """Keeps the estimates of watched cells. An answer is a `LocateResponse` with the names of the wire."""
        if not self._kept:
            return
        for body in answers:
            kept = self._kept.get(body["localLocationEstimate"]["localOrigin"]["coordinateId"])
            if kept is not None:
                answer = LocateResponse.model_validate(body)
                local, source = answer.local_location_estimate, answer.provenance
                kept.append(
                    LiveEstimate(
                        number=next(self._numbers),
                        timestamp_of_location_estimate=answer.timestamp_of_location_estimate,
                        point=local.point,
                        uncertainty_ellipse=local.uncertainty_ellipse,
                        confidence=local.confidence,
                        coarse_position_used=isinstance(source, Provenance) and source.coarse_position_used,
                        cell_version=source.cell_version,
                        source=source.source,
                    )
                )

    async def watch(self, cell_id: str, after: int) -> LiveEstimates:
        """The estimates since `after`. The cell stays watched for ten seconds.

        Raises `WatchingForbidden`, `CellNotFound`, `Congested` where too many cells are watched, or what the store
        raises.
        """
        if not self._allowed:
            raise WatchingForbidden("live estimates are off: FINGERPOST_CONSOLE_LIVE is not set")
        if cell_id not in self._kept:
            await self._publisher.read(find_current_version, self._publisher.store, cell_id)
        estimates = list(self._watched(cell_id))
        last = estimates[-1].number if estimates else 0
        if after > last and estimates:  # the number comes from another process
            after = 0
        return LiveEstimates(estimates=[one for one in estimates if one.number > after], next=max(after, last))

    def close(self) -> None:
        for lease in self._leases.values():
            lease.cancel()
        self._kept.clear()

    def _watched(self, cell_id: str) -> deque[LiveEstimate]:
        """The kept estimates of a cell, which is watched from now on."""
        if cell_id in self._leases:
            self._leases[cell_id].cancel()
        elif len(self._kept) >= MOST_WATCHED:
            raise Congested(f"{MOST_WATCHED} other cells are watched")
        self._leases[cell_id] = asyncio.get_running_loop().call_later(WATCHED_S, self._forget, cell_id)
        return self._kept.setdefault(cell_id, deque(maxlen=KEPT))

    def _forget(self, cell_id: str) -> None:
        del self._kept[cell_id], self._leases[cell_id]
