"""Metrics of users: outcome, source and stated accuracy, and by cell where configured."""

from collections.abc import Iterable, Sequence
from functools import cache
from threading import Lock
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from fingerpost.wire import Fulfilment, Provenance, TrackProvenance
from service.errors import ServiceError

OTHER_CELLS = "other cells"  # cell ids hold no spaces

_NONE = "none"


class Answer(Protocol):
    """What the metrics count of a located user, named as in `fingerpost.wire.LocateResponse`."""

    @property
    def h_accuracy(self) -> float: ...
    @property
    def accuracy_fulfilment_indicator(self) -> Fulfilment | None: ...
    @property
    def provenance(self) -> Provenance | TrackProvenance: ...


Result = Answer | ServiceError


class LocationMetrics:
    """`cell_series`: how many cells get their own series; 0: none."""

    def __init__(self, registry: CollectorRegistry, cell_series: int) -> None:
        self._locations = Counter(
            "fingerpost_locations_total",
            "Users. outcome: located, or the cause of the problem. source: the model family that located them. "
            "fallback: the cause why a user with a trackId was located by one snapshot alone.",
            ["outcome", "source", "fallback"],
            registry=registry,
        )
        self._retrievals = Counter(
            "fingerpost_retrievals_total",
            "Users located, by whether a coarse position was used to retrieve their neighbourhood.",
            ["coarse_position"],
            registry=registry,
        )
        self._stated = Histogram(
            "fingerpost_stated_accuracy_meters",
            "Accuracy stated to users: the radius of the circle in the answer.",
            registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100),
        )
        self._fulfilments = Counter(
            "fingerpost_accuracy_requests_total",
            "Users located who requested an accuracy, by whether the stated accuracy fulfils it.",
            ["indicator"],
            registry=registry,
        )
        self._cells = _CellMetrics(registry, cell_series) if cell_series else None
        # A look-up of labels costs more than the count.
        self._location = cache(self._locations.labels)
        self._retrieval = cache(self._retrievals.labels)
        self._fulfilment = cache(self._fulfilments.labels)
        # Series exist from the start: a missing series looks like a missing service.
        self._location("located", Provenance.model_fields["source"].default, _NONE)
        for indicator in ("REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"):
            self._fulfilment(indicator)

    def note(self, cell_ids: Iterable[str | None], results: Sequence[Result]) -> None:
        """Counts the users of a request. `cell_ids`: the cells requested, None where unreadable."""
        kinds = [_labels(result) for result in results]
        for kind in set(kinds):  # for one user this is faster than a `collections.Counter`
            self._location(*kind).inc(kinds.count(kind))
        answers = [result for result in results if not isinstance(result, ServiceError)]
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
    """Returns outcome, source and fallback."""
    if isinstance(result, ServiceError):
        return result.cause, _NONE, _NONE
    made = result.provenance
    fallback = made.fallback if isinstance(made, Provenance) else None
    return "located", made.source, fallback or _NONE


class _CellMetrics:
    """Series of the first `most` cells in which a user was located, and one series for all other cells.

    A cell gets a series only once a user was located in it: requests for unknown cells must not use up the series.
    """

    def __init__(self, registry: CollectorRegistry, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self._naming = Lock()  # worker threads record batches
        users = Counter(
            "fingerpost_cell_locations_total",
            "Users, by cell and whether they were located.",
            ["cell", "outcome"],
            registry=registry,
        )
        stated = Summary(
            "fingerpost_cell_stated_accuracy_meters",
            "Accuracy stated to users of a cell: the radius of the circle in the answer.",
            ["cell"],
            registry=registry,
        )
        self._users = cache(users.labels)
        self._stated = cache(stated.labels)

    def note(self, cell_id: str | None, result: Result) -> None:
        located = not isinstance(result, ServiceError)
        cell = self._series(cell_id, located)
        self._users(cell, "located" if located else "failed").inc()
        if not isinstance(result, ServiceError):
            self._stated(cell).observe(result.h_accuracy)

    def _series(self, cell_id: str | None, located: bool) -> str:
        if cell_id is not None and cell_id not in self._named and located:
            with self._naming:
                if len(self._named) < self._most:
                    self._named.add(cell_id)
        return cell_id if cell_id in self._named and cell_id is not None else OTHER_CELLS
