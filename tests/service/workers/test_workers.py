"""Two workers behind one port: who serves what, and what all of them hear of."""

import asyncio
import json
import os
import re
import signal
import stat
import threading
from collections.abc import Iterator
from itertools import islice

import httpx
import pytest

from models.artifact import read_manifest
from service.settings import Settings
from tests.redis_servers import GUARD_S, wait_until
from tests.service.readers import reading
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.workers.running import (
    CELLS,
    WORKERS,
    Running,
    cell_of_each_worker,
    make_settings,
    route,
    running,
    skip_without_haproxy,
    user_in,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    skip_without_haproxy()
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "middle").mkdir()
    (folder / "beside").mkdir()
    write_tiny_artifact(folder / "beside", beside=0.25)
    settings = make_settings(folder / "middle")
    return settings.model_copy(update={"artifacts_directory": folder})


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(settings, tmp_path_factory.mktemp("log") / "log") as service:
        yield service


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=GUARD_S) as client:
        yield client


def _starts(client: httpx.Client) -> list[int]:
    found = re.findall(r'^fingerpost_worker_starts_total\{worker="\d"\} (\d+)', client.get("/metrics").text, re.M)
    return [int(number) for number in found]


def test_cells_spread_over_the_workers_and_each_stays_with_one(client: httpx.Client) -> None:
    names = [*CELLS, *(f"no-{number}" for number in range(28))]
    routed = route(client, names)
    assert min(list(routed.values()).count(worker) for worker in WORKERS) >= len(names) // 4
    assert route(client, names) == routed
    for worker, cell_id in cell_of_each_worker(client).items():
        answer = client.post("/locate", json=user_in(cell_id))
        assert (answer.status_code, answer.headers["Fingerpost-Replica"]) == (200, worker), answer.text


def test_one_scrape_has_the_metrics_of_all_workers(client: httpx.Client) -> None:
    for cell_id in cell_of_each_worker(client).values():
        client.post("/locate", json=user_in(cell_id))
    text = client.get("/metrics").text
    for worker in ("1", "2"):
        assert f'fingerpost_worker_up{{worker="{worker}"}} 1.0\n' in text
        located = rf'^fingerpost_requests_total\{{worker="{worker}",route="/locate",status="200"\}} (\S+)$'
        assert re.search(located, text, re.M), text
    assert text.count("# TYPE fingerpost_requests_total counter\n") == 1
    assert client.head("/metrics").status_code == 200
    assert client.post("/metrics", json={}).status_code == 405


def test_latency_counts_the_users_of_all_workers(client: httpx.Client) -> None:
    def count() -> int:
        histograms = {one["stage"]: one["counts"] for one in client.get("/latency").json()["histograms"]}
        return int(histograms["/locate"][-1]) if "/locate" in histograms else 0

    before = count()
    for cell_id in cell_of_each_worker(client).values():
        assert client.post("/locate", json=user_in(cell_id)).status_code == 200
    assert count() == before + len(WORKERS)


def test_only_this_user_can_reach_the_workers_past_haproxy(service: Running) -> None:
    directory = service.directory()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    sockets = [path for path in directory.iterdir() if path.is_socket()]
    assert {f"{worker}.sock" for worker in WORKERS} < {path.name for path in sockets}
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in sockets if "worker" in path.name)
    listening = [one for child in service.children() for one in child.net_connections("tcp") if one.status == "LISTEN"]
    assert {one.laddr.port for one in listening} == {httpx.URL(service.url).port}


def test_an_activated_model_serves_at_all_workers(service: Running, client: httpx.Client, settings: Settings) -> None:
    assert settings.artifacts_directory is not None
    for folder in ("beside", "middle"):
        activated = client.post(f"/models/{folder}:activate", params={"force": "true"}, timeout=GUARD_S)
        assert activated.status_code == 200, activated.text
        digest = read_manifest(settings.artifacts_directory / folder)[1]
        for cell_id in cell_of_each_worker(client).values():

            def serves(cell_id: str = cell_id, digest: str = digest) -> bool:
                answer = client.post("/locate", json=user_in(cell_id))
                assert answer.status_code == 200, answer.text
                return bool(answer.json()["provenance"]["artifact"]["digest"] == digest)

            wait_until(serves, f"{folder} does not serve {cell_id}")


def test_a_new_version_of_a_cell_serves_at_the_worker_that_published_it(client: httpx.Client) -> None:
    """The operator's change and the cell's users reach the same worker."""
    for worker, cell_id in cell_of_each_worker(client).items():
        before = client.post("/locate", json=user_in(cell_id)).json()["provenance"]["cellVersion"]
        changed = client.put(f"/cells/{cell_id}/retention", json={"maxFingerprints": 39})
        assert (changed.status_code, changed.headers["Fingerpost-Replica"]) == (200, worker), changed.text
        version = changed.json()["version"]
        assert version != before

        def serves(cell_id: str = cell_id, worker: str = worker, version: str = version) -> bool:
            answer = client.post("/locate", json=user_in(cell_id))
            assert answer.headers["Fingerpost-Replica"] == worker
            return bool(answer.json()["provenance"]["cellVersion"] == version)

        wait_until(serves, f"version {version} of {cell_id} does not serve")


def test_a_killed_worker_is_replaced_and_no_user_notices(service: Running, client: httpx.Client) -> None:
    before = _starts(client)
    port = httpx.URL(service.url).port
    assert port is not None
    bodies = [("/locate", json.dumps(user_in(cell_id)).encode()) for cell_id in cell_of_each_worker(client).values()]
    with reading(port, bodies) as readers:
        readers.wait_for(20)
        os.kill(service.pid_of("worker-1"), signal.SIGKILL)
        wait_until(lambda: _starts(client) == [before[0] + 1, before[1]], "the worker is not started again")
        wait_until(lambda: set(route(client).values()) == set(WORKERS), "the worker gets no requests")
        readers.wait_for(20)
    assert {answer.status for answer in readers.answers} == {200}
    assert "worker 1 ended with status -9" in service.log.read_text()


def test_haproxy_refuses_requests_that_a_slow_worker_would_let_wait(
    service: Running, client: httpx.Client, settings: Settings
) -> None:
    slow, other = (cell_of_each_worker(client)[worker] for worker in WORKERS)
    in_progress = settings.waiting_limit + 32
    over = 10

    async def overload() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, timeout=GUARD_S, limits=limits) as many:
            pid = service.pid_of(WORKERS[0])
            os.kill(pid, signal.SIGSTOP)
            try:
                asked = [
                    asyncio.create_task(many.post("/locate", json=user_in(slow))) for _ in range(in_progress + over)
                ]
                refused = [await next_answer for next_answer in islice(asyncio.as_completed(asked), over)]
                beside = await many.post("/locate", json=user_in(other))
            finally:
                os.kill(pid, signal.SIGCONT)
            assert {answer.status_code for answer in refused} == {503}
            assert beside.status_code == 200
            return await asyncio.gather(*asked)

    answers = asyncio.run(overload())
    assert sorted(answer.status_code for answer in answers) == [200] * in_progress + [503] * over
    refusal = next(answer for answer in answers if answer.status_code == 503)
    assert refusal.json()["cause"] == "NF_CONGESTION"
    assert refusal.headers["Retry-After"] == "1"
    counted = re.search(
        r'^fingerpost_problems_total\{worker="haproxy",cause="NF_CONGESTION"\} (\d+)', client.get("/metrics").text, re.M
    )
    assert counted is not None
    assert int(counted[1]) >= over


def test_haproxy_is_started_again_and_clients_wait_meanwhile(service: Running, client: httpx.Client) -> None:
    before = route(client)
    (balancer,) = [child for child in service.children() if "haproxy" in child.name()]
    balancer.kill()
    balancer.wait(GUARD_S)
    with httpx.Client(base_url=service.url, timeout=GUARD_S) as new:
        assert route(new) == before
    assert "HAProxy ended with status -9: starting it again" in service.log.read_text()


def test_sighup_restarts_the_workers_one_by_one_and_no_request_fails(service: Running, client: httpx.Client) -> None:
    before, cells = _starts(client), cell_of_each_worker(client)
    pids = {worker: service.pid_of(worker) for worker in WORKERS}
    port = httpx.URL(service.url).port
    assert port is not None
    bodies = [("/locate", json.dumps(user_in(cell_id)).encode()) for cell_id in cells.values()]
    operators, stop = [], threading.Event()

    def operate() -> None:
        with httpx.Client(base_url=service.url, timeout=GUARD_S) as operator:
            while not stop.is_set():
                operators.extend(operator.get(f"/cells/{cell_id}").status_code for cell_id in cells.values())
                operators.append(operator.get("/health/ready").status_code)

    thread = threading.Thread(target=operate)
    with reading(port, bodies) as readers:
        thread.start()
        try:
            readers.wait_for(20)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "all workers have been restarted" in service.log.read_text(), "no restart")
            readers.wait_for(20)
        finally:
            stop.set()
            thread.join()
    assert {answer.status for answer in readers.answers} == {200}
    assert set(operators) == {200}
    assert _starts(client) == [number + 1 for number in before]
    assert all(service.pid_of(worker) != pid for worker, pid in pids.items())
    assert route(client, list(cells.values())) == {cell_id: worker for worker, cell_id in cells.items()}
