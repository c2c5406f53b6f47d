"""Prometheus on the service: configuration, rules, and every query of the rules and of the dashboard."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import ROOT
from tests.deploy.watched import FOLDER, Watched, watch

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "fingerpost.json"
# Without a GPU these panels have no data: the test checks only that Prometheus accepts their queries.
GPU_PANELS = ("GPU: in use", "GPU: memory")
GUARD_S = 180.0  # twenty seconds are usual


def _installed(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def promtool() -> str:
    return _installed("promtool")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watch(_installed("prometheus"), tmp_path_factory.mktemp("watched")) as watched:
        yield watched


def _run(*command: str | Path, given: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=given)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_valid(promtool: str) -> None:
    _run(promtool, "check", "config", FOLDER / "prometheus.yml")
    _run(promtool, "check", "rules", *FOLDER.glob("*.rules.yml"), *FOLDER.glob("*.alerts.yml"))


def test_alerts_fire_when_they_should_and_stop(promtool: str) -> None:
    _run(promtool, "test", "rules", *FOLDER.glob("*.test.yml"))


def test_alert_tests_evaluate_recording_rules_before_alerts() -> None:
    rules = {path.name: yaml.safe_load(path.read_text()) for path in FOLDER.glob("fingerpost.*.yml")}
    groups = [group["name"] for kind in ("rules", "alerts") for group in rules[f"fingerpost.{kind}.yml"]["groups"]]
    tests = list(FOLDER.glob("*.test.yml"))
    assert len(tests) == 2
    # promtool evaluates groups in random order unless the test lists them.
    assert all(yaml.safe_load(test.read_text())["group_eval_order"] == groups for test in tests)


def test_alertmanager_accepts_its_configuration() -> None:
    _run(_installed("amtool"), "check-config", ROOT / "deploy" / "alertmanager" / "alertmanager.yml")


def test_metric_names_follow_the_conventions(promtool: str, watched: Watched) -> None:
    watched.load(0)
    _run(promtool, "check", "metrics", given=watched.service.get("/metrics").text)


def _panels(*, gpu: bool = False) -> list[str]:
    panels = [one for one in json.loads(DASHBOARD.read_text())["panels"] if (one["title"] in GPU_PANELS) == gpu]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [query.replace("$instance", ".*").replace("$__rate_interval", "1m") for query in queries]


def _variables() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    found = [re.search(r"label_values\((.*), \w+\)", str(one["query"])) for one in dashboard["templating"]["list"]]
    return [one[1] for one in found if one is not None]


def _rules() -> list[str]:
    """Each rule's expression. Alerts compare with `bool`, so that they return samples even when they do not fire."""
    files = [yaml.safe_load(path.read_text()) for path in (*FOLDER.glob("*.rules.yml"), *FOLDER.glob("*.alerts.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    compared = re.compile(r"(==|>|<)(?= )")
    return [rule["expr"] if "record" in rule else compared.sub(r"\1 bool", rule["expr"]) for rule in rules]


def _autoscaling() -> list[str]:
    (adapter,) = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "prometheus-adapter.yaml").read_text())
    return [
        query
        for rule in adapter["rules"]["custom"]
        for query in (
            rule["seriesQuery"],
            rule["metricsQuery"]
            .replace("<<.GroupBy>>", "pod")
            .replace("<<.LabelMatchers>>", 'namespace="n", pod="fingerpost"'),
        )
    ]


def _has_data(samples: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


def test_prometheus_accepts_the_queries_of_the_gpu_panels(watched: Watched) -> None:
    queries = _panels(gpu=True)
    assert len(queries) == len(GPU_PANELS)
    assert all("DCGM_FI_DEV_" in query for query in queries)
    assert [watched.ask(query) for query in queries] == [[], []]


def test_every_query_returns_data_from_a_service_under_load(watched: Watched) -> None:
    empty = {*_panels(), *_variables(), *_rules(), *_autoscaling()}
    assert len(empty) > 60
    deadline, number = time.monotonic() + GUARD_S, 1
    while empty:
        assert time.monotonic() < deadline, "\n".join(sorted(empty))
        watched.load(number)
        number += 1
        empty = {query for query in empty if not _has_data(watched.ask(query))}
    rules = watched.rules()
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    # A quarter of the requests failed.
    while _firing(watched, "FingerpostErrorsSpendBudgetFast") != "page":
        assert time.monotonic() < deadline
        watched.load(number)
        number += 1
    assert _firing(watched, "FingerpostDown") is None
    assert _firing(watched, "FingerpostReplicaDown") is None


def _firing(watched: Watched, alert: str) -> str | None:
    """The severity of the alert if it fires."""
    samples = watched.ask(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
    return samples[0]["metric"]["severity"] if samples else None
