"""Metrics and latencies of several workers as one."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fingerpost.wire_health import Latency, LatencyHistogram
from service.workers.exposition import join_latencies, join_metrics

ODD = 'a "b" \\ {c}\n# HELP d'  # what the name of a cell may hold


def _metrics(count: int) -> str:
    registry = CollectorRegistry()
    Counter("users", "How many, with\na line end.", registry=registry).inc(count)
    Gauge("by_cell", "A gauge.", ["cell"], registry=registry).labels(ODD).set(-count)
    Gauge("never_set", "A gauge without samples.", ["cell"], registry=registry)
    Histogram("wait_seconds", "A histogram.", registry=registry, buckets=(1, 2)).observe(1.5)
    Info("build", "Facts.", registry=registry).info({"version": "1"})
    return generate_latest(registry).decode()


def test_every_sample_has_its_worker_and_nothing_else_changes() -> None:
    texts = {"1": _metrics(3), "2": _metrics(4)}
    joined = list(text_string_to_metric_families(join_metrics(texts)))
    names = [family.name for family in joined]
    assert len(names) == len(set(names))
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in joined for sample in family.samples
    }
    expected = {
        (sample.name, *sorted((sample.labels | {"worker": worker}).items())): sample.value
        for worker, text in texts.items()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == expected
    kinds = {family.name: (family.type, family.documentation) for family in joined}
    assert kinds == {
        family.name: (family.type, family.documentation) for family in text_string_to_metric_families(texts["1"])
    }


def test_a_metric_of_one_worker_alone_is_there() -> None:
    text = "# HELP b B.\n# TYPE b gauge\nb 2\n"
    joined = join_metrics({"1": "# HELP a A.\n# TYPE a gauge\na 1\n", "2": text})
    assert joined == '# HELP a A.\n# TYPE a gauge\na{worker="1"} 1\n# HELP b B.\n# TYPE b gauge\nb{worker="2"} 2\n'


def test_a_metric_that_two_versions_describe_differently_is_one_metric() -> None:
    texts = {"1": "# HELP a Old.\n# TYPE a gauge\na 1\n", "2": "# HELP a New.\n# TYPE a gauge\na 2\n"}
    assert join_metrics(texts) == '# HELP a Old.\n# TYPE a gauge\na{worker="1"} 1\na{worker="2"} 2\n'


def test_histograms_are_added_in_the_order_of_the_stages() -> None:
    def one(stage: str, *counts: int) -> LatencyHistogram:
        return LatencyHistogram(stage=stage, up_to=[0.1, None], counts=list(counts))

    first = Latency(histograms=[one("infer", 1, 2), one("/locate", 5, 6)])
    second = Latency(histograms=[one("decode", 3, 4), one("infer", 10, 20)])
    joined = join_latencies([first, second])
    assert [(one.stage, one.counts) for one in joined.histograms] == [
        ("decode", [3, 4]),
        ("infer", [11, 22]),
        ("/locate", [5, 6]),
    ]
