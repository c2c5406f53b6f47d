"""Metrics of users: outcome, source and stated accuracy, and by cell where configured."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

from fingerpost.wire import Fulfilment
from fingerpost.wire_provenance import LwlmProvenance, Provenance, TrackProvenance
from service.errors import ServiceError
from service.telemetry.cell_metrics import CellMetrics

_NONE = "none"
# Answers state 0.05 to 5 m as a rule: there each bound is at most half as large again as the one before.
_RADII = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 10, 25, 50, 100)


class Answer(Protocol):
    """What the metrics count of a located user, named as in `fingerpost.wire.LocateResponse`."""

    @property
    def h_accuracy(self) -> float: ...
    @property
    def accuracy_fulfilment_indicator(self) -> Fulfilment | None: ...
    @property
    def provenance(self) -> Provenance | TrackProvenance | LwlmProvenance: ...


Result = Answer | ServiceError


class LocationMetrics:
    """`cell_series`: how many cells get their own series; 0: none."""

    def __init__(self, registry: CollectorRegistry, cell_series: int) -> None:
        self._locations = Counter(
            "fingerpost_locations_total",
            "Users. outcome: located, or the cause of the problem. source: the model family that located them. "
            "fallback: the cause why a user with a trackId was located by one snapshot alone, or why fingerprints did "
            "not locate a user of the source lwlm.",
            ["outcome", "source", "fallback"],
            registry=registry,
        )
        self._retrievals = Counter(
            "fingerpost_retrievals_total",
            "Users located, by their coarse position. used: it helped to retrieve their neighbourhood. ignored: it "
            "lies outside the cell, or the CSI contradicts it. none: they sent none.",
            ["coarse_position"],
            registry=registry,
        )
        self._joined = Counter(
            "fingerpost_joined_users_total",
            "Users located by several base stations together. agreement: agree, or disagree where the base stations "
            "locate the user farther apart than their errors explain.",
            ["agreement"],
            registry=registry,
        )
        self._stated = Histogram(
            "fingerpost_stated_accuracy_meters",
            "Accuracy stated to users: the radius of the circle in the answer.",
            registry=registry,
            buckets=_RADII,
        )
        self._fulfilments = Counter(
            "fingerpost_accuracy_requests_total",
            "Users located who requested an accuracy, by whether the stated accuracy fulfils it.",
            ["indicator"],
            registry=registry,
        )
        self.cells = CellMetrics(registry, cell_series) if cell_series else None
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
        uses = [_use_of_coarse_position(one) for one in made if isinstance(one, Provenance)]
        for use in set(uses):
            self._retrieval(use).inc(uses.count(use))
        for one in made:
            if isinstance(one, LwlmProvenance) and one.stations is not None:
                self._joined.labels("agree" if one.disagreement is None else "disagree").inc()
        for answer in answers:
            self._stated.observe(answer.h_accuracy)
            if answer.accuracy_fulfilment_indicator is not None:
                self._fulfilment(answer.accuracy_fulfilment_indicator).inc()
        if self.cells is not None:
            for cell_id, result in zip(cell_ids, results, strict=True):
                self.cells.note(cell_id, None if isinstance(result, ServiceError) else result.h_accuracy)


def _labels(result: Result) -> tuple[str, str, str]:
    """Returns outcome, source and fallback."""
    if isinstance(result, ServiceError):
        return result.cause, _NONE, _NONE
    made = result.provenance
    fallback = None if isinstance(made, TrackProvenance) else made.fallback
    return "located", made.source, fallback or _NONE


def _use_of_coarse_position(made: Provenance) -> str:
    if made.coarse_position_used:
        return "used"
    return _NONE if made.coarse_position_ignored is None else "ignored"
