"""Joins what the workers measure."""

import re
from collections.abc import Iterable, Mapping

from fingerpost.wire_health import Latency, LatencyHistogram
from service.telemetry.latency import ORDER

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?", re.MULTILINE)
_HEAD = "# HELP "
_FAMILIES = re.compile(f"^{_HEAD}", re.MULTILINE)


def join_metrics(texts: Mapping[str, str]) -> str:
    """The metrics of all workers in Prometheus' text format. Each sample gets the label `worker`.

    `texts`: the metrics of a worker by its name. Samples of one metric follow each other, after its HELP and TYPE in
    the first of these texts: workers of two versions may describe it differently.
    """
    families: dict[str, list[str]] = {}
    for worker, text in texts.items():
        for block in _FAMILIES.split(text)[1:]:
            description, kind, *samples = block.rstrip("\n").split("\n")
            family = families.setdefault(description.split(" ")[0], [f"{_HEAD}{description}\n{kind}\n"])
            if samples:
                family.append(_label("\n".join(samples), worker) + "\n")
    return "".join("".join(family) for family in families.values())


def _label(samples: str, worker: str) -> str:
    return _SAMPLE.sub(lambda found: f'{found[1]}{{worker="{worker}"' + (f"{',' if found[2] else '}'}"), samples)


def join_latencies(latencies: Iterable[Latency]) -> Latency:
    """The histograms of all workers, added, in the order of a request's stages."""
    joined: dict[str, LatencyHistogram] = {}
    for latency in latencies:
        for one in latency.histograms:
            before = joined.get(one.stage)
            if before is not None:
                counts = [a + b for a, b in zip(before.counts, one.counts, strict=True)]
                one = one.model_copy(update={"counts": counts})
            joined[one.stage] = one
    return Latency(histograms=[joined[stage] for stage in ORDER if stage in joined])
