import platform
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference_db import DirectoryStore, import_fingerprints, read_contents
from tests.redis_servers import GUARD_S
from tests.service.learned_cells import TRAJECTORY, snapshot
from tests.service.plane_cell import Json
from tests.service.running import running, tiny_request, tiny_service
from tests.service.tiny_cell import ORIGIN


def samples(client: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_names_are_the_services_own_or_the_standard_ones_of_a_process(client: httpx.Client) -> None:
    names = {name for name, _ in samples(client)}
    assert {name for name in names if not name.startswith("fingerpost_")} == {
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }


def test_no_series_tells_when_another_series_began(client: httpx.Client, request_body: Callable[..., Json]) -> None:
    client.post("/locate", json=request_body())
    names = {name for name, _ in samples(client)}
    assert "fingerpost_locations_total" in names
    assert not [name for name in names if name.endswith("_created")]


def test_stated_accuracies_between_5_cm_and_5_m_are_resolved(client: httpx.Client) -> None:
    name = "fingerpost_stated_accuracy_meters_bucket"
    bounds = sorted(float(dict(labels)["le"]) for found, labels in samples(client) if found == name)
    assert {0.05, 5} <= set(bounds)
    usual = [bound for bound in bounds if 0.05 <= bound <= 5]
    assert max(upper / lower for lower, upper in pairwise(usual)) <= 1.5


def test_counts_stages_outcomes_and_requests(client: httpx.Client, request_body: Callable[..., Json]) -> None:
    client.post("/locate", json=request_body())
    before = samples(client)
    client.post("/locate", json=request_body())
    client.post("/locate/batch", json={"items": [request_body(), request_body(cellId="nowhere")]})
    client.post("/locate", json=request_body(cellId="nowhere"))
    by_signal = request_body()
    del by_signal["coarsePosition"]
    client.post("/locate", json=by_signal)
    client.get("/nowhere/at/all")
    after = samples(client)

    def rise(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    count = "fingerpost_stage_duration_seconds_count"
    assert [rise(count, stage=stage) for stage in ("decode", "retrieve", "infer", "encode")] == [4, 3, 3, 4]
    assert rise("fingerpost_locations_total", outcome="located", source="mateformer", fallback="none") == 3
    assert rise("fingerpost_locations_total", outcome="CELL_NOT_FOUND", source="none", fallback="none") == 2
    assert rise("fingerpost_retrievals_total", coarse_position="used") == 2
    assert rise("fingerpost_retrievals_total", coarse_position="none") == 1
    assert rise("fingerpost_requests_total", route="/locate", status="200") == 2
    assert rise("fingerpost_requests_total", route="/locate", status="404") == 1
    assert rise("fingerpost_requests_total", route="/locate/batch", status="200") == 1
    assert rise("fingerpost_requests_total", route="none", status="404") == 1
    assert rise("fingerpost_request_duration_seconds_count", route="/locate") == 3


def test_counts_problems_by_cause(client: httpx.Client, request_body: Callable[..., Json]) -> None:
    before = samples(client)
    client.post("/locate", json=request_body(cellId="nowhere"))
    client.post("/locate", json=request_body(cellId="narrow", allowFallback=False))
    client.get("/nowhere/at/all")
    client.delete("/locate")
    client.post("/locate", json=request_body())
    after = samples(client)
    rises = {
        dict(labels)["cause"]: rise
        for (name, labels), value in after.items()
        if name == "fingerpost_problems_total" and (rise := value - before.get((name, labels), 0))
    }
    assert rises == {
        "CELL_NOT_FOUND": 1,
        "POSITIONING_METHOD_FAILURE": 1,
        "RESOURCE_URI_STRUCTURE_NOT_FOUND": 1,
        "METHOD_NOT_ALLOWED": 1,
    }


def test_counts_stated_accuracies_and_fulfilled_requests(
    client: httpx.Client, request_body: Callable[..., Json]
) -> None:
    before = samples(client)
    client.post("/locate", json=request_body(hAccuracy=1000.0))
    client.post("/locate/batch", json={"items": [request_body(hAccuracy=1e-3), request_body()]})
    client.post("/locate", json=request_body(cellId="nowhere", hAccuracy=1000.0))
    after = samples(client)
    asked = {
        indicator: after[key] - before[key]
        for indicator in ("REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED")
        for key in [("fingerpost_accuracy_requests_total", (("indicator", indicator),))]
    }
    assert asked == {"REQUESTED_ACCURACY_FULFILLED": 1, "REQUESTED_ACCURACY_NOT_FULFILLED": 1}
    count = ("fingerpost_stated_accuracy_meters_count", ())
    assert after[count] - before[count] == 3


def test_counts_users_by_model_and_by_cause_of_fallback(learned: httpx.Client) -> None:
    before = samples(learned)
    track_id = uuid4().hex
    for position in TRAJECTORY:
        assert learned.post("/locate", json=snapshot(track_id, position)).status_code == 200
    after = samples(learned)
    rises = {
        (labels["source"], labels["fallback"]): value - before.get((name, key), 0)
        for (name, key), value in after.items()
        if name == "fingerpost_locations_total" and value != before.get((name, key), 0)
        for labels in [dict(key)]
    }
    assert rises == {("mateformer", "TRACK_TOO_SHORT"): len(TRAJECTORY) - 1, ("scadf-moe", "none"): 1}


def test_names_no_cell_by_default(client: httpx.Client, request_body: Callable[..., Json]) -> None:
    client.post("/locate", json=request_body())
    assert not any("cell" in dict(labels) for _, labels in samples(client))
    assert "plane" not in client.get("/metrics").text


@pytest.mark.anyio
async def test_at_most_cell_series_cells_get_their_own_series(tmp_path: Path) -> None:
    settings = tiny_service(tmp_path).model_copy(update={"cell_series": 2})
    store = DirectoryStore(settings.database_directory)
    first = store.current("c")
    assert first is not None
    for cell_id in ("d", "e"):
        cell = first.cell.model_copy(update={"cell_id": cell_id})
        import_fingerprints(store, cell, read_contents(store, first).fingerprints(), {}, ORIGIN)
    async with running(settings) as client:
        for cell_id in ("nowhere", "c", "d", "c", "e", "nowhere"):
            await client.post("/locate", json=tiny_request(1) | {"cellId": cell_id})
        far_away = tiny_request(1) | {"coarsePosition": {"x": 1e5, "y": 0.0, "hAccuracy": 1.0}}
        items = [tiny_request(1), far_away, {"cellId": 7}]
        await client.post("/locate/batch", json={"items": items})
        text = (await client.get("/metrics")).text
    counted = {
        (sample.labels["cell"], sample.labels["outcome"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fingerpost_cell_locations_total"
    }
    assert counted == {
        ("c", "located"): 3,
        ("c", "failed"): 1,
        ("d", "located"): 1,
        ("other cells", "located"): 1,
        ("other cells", "failed"): 3,
    }
    assert re.search(r'^fingerpost_cell_stated_accuracy_meters_count\{cell="c"\} 3', text, re.MULTILINE)


@pytest.mark.anyio
async def test_cells_with_series_show_how_old_their_fingerprints_are(tmp_path: Path) -> None:
    """`c` has no times; `old` was measured 1,000 to 5,000 s ago; a replica without room keeps one cell in memory."""
    settings = tiny_service(tmp_path).model_copy(update={"cell_series": 2, "cell_memory_bytes": 1})
    store = DirectoryStore(settings.database_directory)
    first = store.current("c")
    assert first is not None
    fingerprints = read_contents(store, first).fingerprints()
    times = time.time() - np.linspace(5000, 1000, len(fingerprints.times))
    cell = first.cell.model_copy(update={"cell_id": "old"})
    now = replace(ORIGIN, now=datetime.now(UTC))
    import_fingerprints(store, cell, replace(fingerprints, times=times), {}, now)
    async with running(settings) as client:
        for cell_id in ("c", "old"):
            (await client.post("/locate", json=tiny_request(1) | {"cellId": cell_id})).raise_for_status()
        ages = _ages((await client.get("/metrics")).text)
        assert ages.keys() == {("old", "oldest"), ("old", "newest")}
        assert ages["old", "oldest"] - ages["old", "newest"] == pytest.approx(4000, abs=1e-3)
        assert 1000 <= ages["old", "newest"] < 1000 + GUARD_S
        await client.post("/locate", json=tiny_request(1))
        assert _ages((await client.get("/metrics")).text) == {}


def _ages(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["cell"], sample.labels["fingerprint"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fingerpost_cell_fingerprint_age_seconds"
    }


def test_reports_queue_length_end_of_dispatches_and_version(
    client: httpx.Client, request_body: Callable[..., Json]
) -> None:
    before = samples(client)
    client.post("/locate", json=request_body())
    after = samples(client)
    ended = {end: after[key] - before[key] for end in ("all", "full") for key in [_dispatches(end)]}
    assert ended == {"all": 1, "full": 0}
    assert [after["fingerpost_queue_users", (("lane", lane),)] for lane in ("single", "batch")] == [0, 0]
    (build,) = (dict(labels) for name, labels in after if name == "fingerpost_build_info")
    assert build == {"version": version("fingerpost"), "python": platform.python_version()}


def _dispatches(end: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return "fingerpost_dispatches_total", (("end", end),)
