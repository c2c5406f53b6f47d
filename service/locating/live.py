"""The last estimates of a cell, for an operator who watches it.

Positions of people are personal. Nothing is kept unless the settings allow it, and then only in memory, while an
operator asks, without request ids, and only the last few estimates. Tracks have numbers instead of their ids.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import count
from threading import Lock

from fingerpost.wire_live import LiveEstimate, LiveEstimates
from fingerpost.wire_provenance import KnnProvenance, Provenance
from fingerpost.wire_shapes import LocalPoint, UncertaintyEllipse
from service.errors import Congested, WatchingForbidden
from service.locating.answers import Answer
from service.updates.history import find_current_version
from service.updates.publisher import Publisher

Compared = Provenance | KnnProvenance  # with fingerprints
KEPT = 256  # estimates a cell
WATCHED_S = 10.0  # after an operator's last request
MOST_WATCHED = 16  # cells


class _TrackNumbers:
    """Numbers for tracks, so that ids of users stay where they were sent. For any thread; knows the last few tracks."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._next = count(1)
        self._lock = Lock()

    def number(self, owner: str, track_id: str) -> int:
        name = (owner, track_id)
        with self._lock:
            number = self._known.pop(name, None)
            self._known[name] = next(self._next) if number is None else number
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
            return self._known[name]


class Live:
    """Any thread may call `note`; everything else belongs to the event loop's thread."""

    def __init__(self, publisher: Publisher, *, allowed: bool) -> None:
        self._publisher = publisher
        self._allowed = allowed
        self._kept: dict[str, deque[LiveEstimate]] = {}
        self._leases: dict[str, asyncio.TimerHandle] = {}
        self._tracks: dict[str, _TrackNumbers] = {}
        self._numbers = count(1)

    def note(self, answers: Iterable[Answer], owner: str) -> None:
        """Keeps the estimates of watched cells. `owner`: the id of the key that asked; its track ids are its own."""
        if not self._kept:
            return
        for answer in answers:
            cell_id = answer.location.cell.cell_id
            kept, tracks = self._kept.get(cell_id), self._tracks.get(cell_id)
            if kept is not None and tracks is not None:
                source, (ellipse, confidence) = answer.location.provenance, answer.usual
                east, north = answer.location.position.tolist()
                kept.append(
                    LiveEstimate(
                        number=next(self._numbers),
                        timestamp_of_location_estimate=answer.measured,
                        point=LocalPoint(x=east, y=north),
                        uncertainty_ellipse=UncertaintyEllipse(
                            semi_major=ellipse.semi_major,
                            semi_minor=ellipse.semi_minor,
                            orientation_major=ellipse.orientation_deg,
                        ),
                        confidence=confidence,
                        coarse_position_used=isinstance(source, Provenance | KnnProvenance)
                        and source.coarse_position_used,
                        cell_version=source.cell_version,
                        source=source.source,
                        track=None if answer.track_id is None else tracks.number(owner, answer.track_id),
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
        self._tracks.clear()

    def _watched(self, cell_id: str) -> deque[LiveEstimate]:
        """The kept estimates of a cell, which is watched from now on."""
        if cell_id in self._leases:
            self._leases[cell_id].cancel()
        elif len(self._kept) >= MOST_WATCHED:
            raise Congested(f"{MOST_WATCHED} other cells are watched")
        self._leases[cell_id] = asyncio.get_running_loop().call_later(WATCHED_S, self._forget, cell_id)
        self._tracks.setdefault(cell_id, _TrackNumbers())
        return self._kept.setdefault(cell_id, deque(maxlen=KEPT))

    def _forget(self, cell_id: str) -> None:
        del self._kept[cell_id], self._tracks[cell_id], self._leases[cell_id]
