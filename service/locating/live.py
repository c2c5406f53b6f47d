"""``GET /cells/{cellId}/live``: the last estimates of a cell, for an operator who watches.

Where people are is theirs: nothing is kept unless the settings allow it, and then only while somebody asks, in memory,
without the request's id, and never more than the last few.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import LocalPoint, LocateResponse, Provenance, UncertaintyEllipse, WireStruct
from service.errors import Congested, WatchingForbidden
from service.updates.cells import cell_id_of, current_of
from service.updates.publisher import Publisher
from service.updates.query import Query

KEPT = 256  # estimates a cell
WATCHED_S = 10.0  # since an operator last asked
MOST_WATCHED = 16  # cells
_LAST_NUMBER = 2**53


class LiveEstimate(WireStruct, frozen=True, kw_only=True):
    """Metres east and north of the base station, and the ellipse that holds the user with this confidence."""

    number: int
    timestamp_of_location_estimate: datetime
    point: LocalPoint
    uncertainty_ellipse: UncertaintyEllipse
    confidence: int
    coarse_position_used: bool
    cell_version: str


class LiveEstimates(WireStruct, frozen=True, kw_only=True):
    """Oldest first; of more than the last 256 the older ones are lost."""

    estimates: list[LiveEstimate]
    next: Annotated[int, Meta(description="`after` of the next request.")]


class Live:
    """Estimates are noted by whichever thread made them; all else is for the event loop's."""

    def __init__(self, publisher: Publisher, *, allowed: bool) -> None:
        self._publisher = publisher
        self._allowed = allowed
        self._kept: dict[str, deque[LiveEstimate]] = {}
        self._leases: dict[str, asyncio.TimerHandle] = {}
        self._numbers = count(1)

    def note(self, answers: Iterable[LocateResponse]) -> None:
        """Keeps the estimates of cells that are watched."""
        if not self._kept:
            return
        for answer in answers:
            local, source = answer.local_location_estimate, answer.provenance
            kept = self._kept.get(local.local_origin.coordinate_id)
            if kept is not None:
                kept.append(
                    LiveEstimate(
                        number=next(self._numbers),
                        timestamp_of_location_estimate=answer.timestamp_of_location_estimate,
                        point=local.point,
                        uncertainty_ellipse=local.uncertainty_ellipse,
                        confidence=local.confidence,
                        coarse_position_used=isinstance(source, Provenance) and source.coarse_position_used,
                        cell_version=source.cell_version,
                    )
                )

    async def endpoint(self, request: Request) -> Response:
        """What came since `after`; whoever asks watches the cell for the next ten seconds."""
        cell_id, query = cell_id_of(request), Query(request, "after")
        after = query.number("after", _LAST_NUMBER) or 0
        if not self._allowed:
            raise WatchingForbidden("FINGERPOST_CONSOLE_LIVE is off: nobody may watch where users are located")
        if cell_id not in self._kept:
            await self._publisher.read(current_of, self._publisher.store, cell_id)
        estimates = list(self._watched(cell_id))
        last = estimates[-1].number if estimates else 0
        if after > last and estimates:  # another process counted so far
            after = 0
        answer = LiveEstimates(estimates=[one for one in estimates if one.number > after], next=max(after, last))
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")

    def close(self) -> None:
        for lease in self._leases.values():
            lease.cancel()
        self._kept.clear()

    def _watched(self, cell_id: str) -> deque[LiveEstimate]:
        """A watched cell's estimates, kept from now until nobody has asked for a while."""
        if cell_id in self._leases:
            self._leases[cell_id].cancel()
        elif len(self._kept) >= MOST_WATCHED:
            raise Congested(f"{MOST_WATCHED} cells are watched already")
        self._leases[cell_id] = asyncio.get_running_loop().call_later(WATCHED_S, self._forget, cell_id)
        return self._kept.setdefault(cell_id, deque(maxlen=KEPT))

    def _forget(self, cell_id: str) -> None:
        del self._kept[cell_id], self._leases[cell_id]
