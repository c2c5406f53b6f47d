"""Metrics of users: outcome, source and stated accuracy, and by cell where configured."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

from fingerpost.wire_provenance import KnnProvenance, LwlmProvenance, Provenance, TrackProvenance, UserProvenance
from fingerpost.wire_shapes import Fulfilment
from service.errors import PositioningMethodFailure, ServiceError
from service.telemetry.cell_metrics import CellMetrics

_NONE = "none"
# Answers state 0.05 to 5 m as a rule: there each bound is at most half as large again as the one before.
_RADII = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 10, 25, 50, 100)


class Answer(Protocol):
    """What the metrics count of a located user.

    `usual_accuracy`: the major half axis in metres at the confidence of the service, whatever the user asked for.
    `asked_confidence` and `asked_shape` are None where the request did not ask.
    """

    @property
    def usual_accuracy(self) -> float: ...
    @property
    def indicator(self) -> Fulfilment | None: ...
    @property
    def asked_confidence(self) -> int | None: ...
    @property
    def confidence(self) -> int: ...
    @property
    def asked_shape(self) -> str | None: ...
    @property
    def provenance(self) -> UserProvenance: ...


Result = Answer | ServiceError


class LocationMetrics:
    """`cell_series`: how many cells get their own series; 0: none."""

    def __init__(self, registry: CollectorRegistry, cell_series: int) -> None:
        self._locations = Counter(
            "fingerpost_locations_total",
            "Users. outcome: located, or the cause of the problem. source: the method that located them: scadf-moe, "
            "mateformer, weighted-knn, lwlm or coarse. fallback: the cause why the first method that was asked did not "
            "locate them.",
            ["outcome", "source", "fallback"],
            registry=registry,
        )
        self._retrievals = Counter(
            "fingerpost_retrievals_total",
            "Users located by fingerprints, by their coarse position. used: it helped to find the fingerprints. "
            "ignored: it lies outside the cell, or the CSI contradicts it. none: they sent none.",
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
            "Accuracy of users: the major half axis of the ellipse at FINGERPOST_CONFIDENCE, or at the nearest "
            "confidence that is known, not at the one that users asked for.",
            registry=registry,
            buckets=_RADII,
        )
        self._fulfilments = Counter(
            "fingerpost_accuracy_requests_total",
            "Users located who requested an accuracy, by whether the stated accuracy fulfils it.",
            ["indicator"],
            registry=registry,
        )
        self._confidences = Counter(
            "fingerpost_confidence_requests_total",
            "Users located who requested a confidence, by the ten per cent that it is in (50, 60, 70, 80, 90). stated: "
            "requested, or nearest where the requested one is not known.",
            ["confidence", "stated"],
            registry=registry,
        )
        self._shapes = Counter(
            "fingerpost_shape_requests_total",
            "Users located who sent supportedGADShapes, by the shape on the globe that they were answered with.",
            ["shape"],
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
        uses = [_use_of_coarse_position(one) for one in made if isinstance(one, Provenance | KnnProvenance)]
        for use in set(uses):
            self._retrieval(use).inc(uses.count(use))
        for one in made:
            if isinstance(one, LwlmProvenance) and one.stations is not None:
                self._joined.labels("agree" if one.disagreement is None else "disagree").inc()
        for answer in answers:
            self._stated.observe(answer.usual_accuracy)
            if answer.indicator is not None:
                self._fulfilment(answer.indicator).inc()
            if (asked := answer.asked_confidence) is not None:
                stated = "requested" if answer.confidence == asked else "nearest"
                self._confidences.labels(str(asked // 10 * 10), stated).inc()
            if answer.asked_shape is not None:
                self._shapes.labels(answer.asked_shape).inc()
        if self.cells is not None:
            for cell_id, result in zip(cell_ids, results, strict=True):
                self.cells.note(cell_id, None if isinstance(result, ServiceError) else result.usual_accuracy)


def _labels(result: Result) -> tuple[str, str, str]:
    """Returns outcome, source and fallback."""
    if isinstance(result, PositioningMethodFailure):
        return result.cause, _NONE, result.failures[0][1] if result.failures else _NONE
    if isinstance(result, ServiceError):
        return result.cause, _NONE, _NONE
    made = result.provenance
    fallbacks = None if isinstance(made, TrackProvenance) else made.fallbacks
    return "located", made.source, fallbacks[0].cause if fallbacks else _NONE


def _use_of_coarse_position(made: Provenance | KnnProvenance) -> str:
    if made.coarse_position_used:
        return "used"
    return _NONE if made.coarse_position_ignored is None else "ignored"
