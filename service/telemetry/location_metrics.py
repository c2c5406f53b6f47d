"""What Prometheus sees of users: what became of each, who located it, and, where it is wanted, in which cell."""

from collections.abc import Iterable, Sequence
from functools import cache
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from fingerpost.wire import LocateResponse, Provenance
from service.errors import ServiceError

OTHER_CELLS = "other cells"  # no cell can be called so

_NONE = "none"
Result = LocateResponse | ServiceError


class LocationMetrics:
    """`cell_series`: how many cells may have series of their own; 0: none has."""

    def __init__(self, registry: CollectorRegistry, cell_series: int) -> None:
        self._locations = Counter(
            "fingerpost_locations_total",
            "Users, by outcome: located, or the cause of the problem; by the network that located them; and by the "
            "cause that those with a track were located by one snapshot alone.",
            ["outcome", "source", "fallback"],
            registry=registry,
        )
        self._retrievals = Counter(
            "fingerpost_retrievals_total",
            "Users located, by whether a coarse position was used to find their fingerprints.",
            ["coarse_position"],
            registry=registry,
        )
        self._stated = Histogram(
            "fingerpost_stated_accuracy_meters",
            "Radius of the circle that a user was answered with.",
            registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100),
        )
        self._fulfilments = Counter(
            "fingerpost_accuracy_requests_total",
            "Users located who had asked for an accuracy, by whether the one stated fulfils it.",
            ["indicator"],
            registry=registry,
        )
        self._cells = _CellMetrics(registry, cell_series) if cell_series else None
        # To look a child up takes longer than to count.
        self._location = cache(self._locations.labels)
        self._retrieval = cache(self._retrievals.labels)
        self._fulfilment = cache(self._fulfilments.labels)
        # What has not happened yet is zero, not unknown.
        self._location("located", Provenance.model_fields["source"].default, _NONE)
        for indicator in ("REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"):
            self._fulfilment(indicator)

    def note(self, cell_ids: Iterable[str | None], results: Sequence[Result]) -> None:
        """Counts the users of a request; `cell_ids`: the cells they asked for, None where that could not be read."""
        kinds = [_labels(result) for result in results]
        for kind in set(kinds):  # to make a `collections.Counter` takes longer than to count one user
            self._location(*kind).inc(kinds.count(kind))
        answers = [result for result in results if isinstance(result, LocateResponse)]
        made = [answer.provenance for answer in answers]
        used = [one.coarse_position_used for one in made if isinstance(one, Provenance)]
        for one in set(used):
            self._retrieval("used" if one else "none").inc(used.count(one))
        for answer in answers:
            self._stated.observe(answer.h_accuracy)
            if answer.accuracy_fulfilment_indicator is not None:
                self._fulfilment(answer.accuracy_fulfilment_indicator).inc()
        if self._cells is not None:
            for cell_id, result in zip(cell_ids, results, strict=True):
                self._cells.note(cell_id, result)


def _labels(result: Result) -> tuple[str, str, str]:
    """Outcome, source, fallback."""
    if isinstance(result, ServiceError):
        return result.cause, _NONE, _NONE
    made = result.provenance
    fallback = made.fallback if isinstance(made, Provenance) else None
    return "located", made.source, fallback or _NONE


class _CellMetrics:
    """The first `most` cells that somebody was located in have series of their own, the others one together.

    Whoever asks for cells that are not there must not take their places.
    """

    def __init__(self, registry: CollectorRegistry, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self._naming = Lock()  # batches are noted by threads of their own
        users = Counter(
            "fingerpost_cell_locations_total",
            "Users, by cell and whether they were located.",
            ["cell", "outcome"],
            registry=registry,
        )
        stated = Summary(
            "fingerpost_cell_stated_accuracy_meters",
            "Radius of the circle that users of a cell were answered with.",
            ["cell"],
            registry=registry,
        )
        self._users = cache(users.labels)
        self._stated = cache(stated.labels)

    def note(self, cell_id: str | None, result: Result) -> None:
        located = isinstance(result, LocateResponse)
        cell = self._series(cell_id, located)
        self._users(cell, "located" if located else "failed").inc()
        if isinstance(result, LocateResponse):
            self._stated(cell).observe(result.h_accuracy)

    def _series(self, cell_id: str | None, located: bool) -> str:
        if cell_id is not None and cell_id not in self._named and located:
            with self._naming:
                if len(self._named) < self._most:
                    self._named.add(cell_id)
        return cell_id if cell_id in self._named and cell_id is not None else OTHER_CELLS
