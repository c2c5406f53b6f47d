"""Which replica HAProxy chooses, and where a cell's users go when replicas join and leave."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import Client, build_locate_body, build_locate_request
from reference_db import DirectoryStore, import_fingerprints
from tests.deploy.balanced import (
    CONFIGURATION,
    DEADLINE_S,
    REPLICAS,
    Balanced,
    balance,
    haproxy_before,
    haproxy_binary,
)
from tests.service.plane_cell import USER, Json, fingerprints_at, make_cell, street, users_at
from tests.service.tiny_cell import ORIGIN

NAMES = [f"cell-{number}" for number in range(60)]  # cells that do not exist: routed alike, and a 404 is cheap
SHARED = 30  # without a cell HAProxy walks along its hash ring, where up to eight points in a row are one replica's


@pytest.fixture(scope="module")
def haproxy() -> str:
    path = haproxy_binary()
    if path is None:
        pytest.skip("haproxy is not installed")
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("database")
    for cell_id in ("plane", "other"):
        cell, fingerprints = make_cell(cell_id), fingerprints_at(street(80, seed=1))
        import_fingerprints(DirectoryStore(directory), cell, fingerprints, {}, ORIGIN)
    return directory


@pytest.fixture(scope="module")
def balanced(haproxy: str, database: Path) -> Iterator[Balanced]:
    with balance(haproxy, database) as balanced:
        yield balanced


def _eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _user(cell_id: str) -> Json:
    return build_locate_body(cell_id, users_at(USER)[0])


def _packed(cell_id: str) -> bytes:
    csi = {"encoding": "complex64", "shape": [32, 32], "data": users_at(USER)[0].tobytes()}
    return msgspec.msgpack.encode({"csi": csi, "cellId": cell_id})


def _replica(answer: httpx.Response) -> str:
    replica: str = answer.headers["Fingerpost-Replica"]
    return replica


def _route(client: httpx.Client, cell_id: str) -> str:
    """The replica of a cell, found by a request without CSI: a 400 is cheap."""
    answer = client.post("/locate", json={"cellId": cell_id})
    assert answer.status_code == 400, answer.text
    return _replica(answer)


@pytest.mark.parametrize("replicas", [{}, {"FINGERPOST_REPLICAS": "fingerpost.example:8080"}])
def test_configuration_is_valid_and_gives_no_warning(haproxy: str, tmp_path: Path, replicas: dict[str, str]) -> None:
    (tmp_path / "server-state").write_text("1\n")
    environment = os.environ | replicas | {"FINGERPOST_HAPROXY_DIRECTORY": str(tmp_path)}
    checked = subprocess.run(
        [haproxy, "-c", "-dW", "-f", CONFIGURATION], env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_answer_names_the_replica_that_located_the_user(balanced: Balanced) -> None:
    for cell_id in ("plane", "other"):
        before = balanced.answered("/locate")
        answers = [balanced.client.post("/locate", json=_user(cell_id)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
        (replica,) = {_replica(answer) for answer in answers}
        assert balanced.answered("/locate") == before | {replica: before[replica] + 3}


@pytest.mark.parametrize("cell_id", NAMES[:6])
def test_requests_of_a_cell_go_to_one_replica_however_it_is_named(balanced: Balanced, cell_id: str) -> None:
    client, user = balanced.client, _user(cell_id)
    named = {"Fingerpost-Cell": cell_id}
    msgpack = named | {"Content-Type": "application/msgpack"}
    answers = [
        client.get(f"/cells/{cell_id}"),
        client.post("/locate", json=user),
        client.post("/locate", json=dict(reversed(user.items()))),
        client.post("/locate", content=_packed(cell_id), headers=msgpack),
        client.post("/locate", json=_user("another"), headers=named),
    ]
    assert {answer.status_code for answer in answers} == {404}
    batches = [
        client.post("/locate/batch", json={"items": [user, user]}),
        client.post("/locate/batch", json={"items": [user] * 40}),  # far more than fits in HAProxy's buffer
    ]
    assert {answer.status_code for answer in batches} == {200}
    assert len({_replica(answer) for answer in (*answers, *batches)}) == 1


def test_the_client_sends_the_cell_header_and_splits_a_batch_by_cells(balanced: Balanced) -> None:
    route = "/locate/batch"
    # Too long for HAProxy to find the cell's name in the body, and in msgpack, which HAProxy cannot read.
    users = [build_locate_request(cell_id, np.ones((64, 64), np.complex64)) for cell_id in ("plane", "other", "plane")]
    before, replicas = balanced.answered(route), [_route(balanced.client, cell_id) for cell_id in ("plane", "other")]
    with Client(str(balanced.client.base_url)) as client:
        for _ in range(4):
            causes = [getattr(result, "cause", None) for result in client.locate_batch(users)]
            assert causes == ["CSI_SHAPE_MISMATCH"] * 3
    expected = {name: count + 4 * replicas.count(name) for name, count in before.items()}
    assert balanced.answered(route) == expected


def test_without_a_cell_replicas_share_the_requests(balanced: Balanced) -> None:
    requests: list[dict[str, Any]] = [
        {"content": _packed("nowhere"), "headers": {"Content-Type": "application/msgpack"}},
        {"content": b"no JSON"},
        {"json": [1]},
        {"json": {"items": []}},
        {"json": {"cellId": None}},
    ]
    for request in requests:
        asked = {_replica(balanced.client.post("/locate", **request)) for _ in range(SHARED)}
        assert asked == set(REPLICAS), request


def test_cells_spread_over_the_replicas(balanced: Balanced) -> None:
    routed = [_route(balanced.client, name) for name in NAMES]
    assert min(map(routed.count, REPLICAS)) >= len(NAMES) // 4


def test_a_new_replica_takes_cells_and_gives_them_back_when_it_leaves(balanced: Balanced) -> None:
    before = {name: _route(balanced.client, name) for name in NAMES}
    # A third server to HAProxy, although replica-1 answers.
    address = balanced.replica_urls["replica-1"].removeprefix("http://")
    assert "registered" in balanced.tell(f"add server locate/replica-3 {address} id 3 weight 100")
    try:
        assert balanced.tell("enable server locate/replica-3") == ""
        with_three = {name: _route(balanced.client, name) for name in NAMES}
        kept = {name: replica for name, replica in with_three.items() if replica != "replica-3"}
        assert len(NAMES) // 6 <= len(kept) <= len(NAMES) * 5 // 6
        assert kept.items() <= before.items()
    finally:
        balanced.tell("disable server locate/replica-3")
    assert {name: _route(balanced.client, name) for name in NAMES} == before


def test_the_users_address_serves_no_metrics(balanced: Balanced) -> None:
    answer = balanced.client.get("/metrics")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["cause"] == "RESOURCE_URI_STRUCTURE_NOT_FOUND"
    assert "haproxy_server_status" in httpx.get(f"{balanced.metrics_url}/metrics", timeout=DEADLINE_S).text


def test_the_other_replica_takes_over_at_once_and_without_any_the_answer_is_a_problem(
    haproxy: str, database: Path
) -> None:
    with balance(haproxy, database) as balanced:
        client = balanced.client
        assert {_route(client, name) for name in NAMES} == set(REPLICAS)
        balanced.stop("replica-1")
        # Even before a health check fails.
        assert {_route(client, name) for name in NAMES} == {"replica-2"}
        assert {_replica(client.get(f"/cells/{name}")) for name in NAMES} == {"replica-2"}
        _eventually(lambda: not balanced.is_up("replica-1"))
        assert balanced.is_up("replica-2")
        assert {_route(client, name) for name in NAMES} == {"replica-2"}
        balanced.stop("replica-2")
        _expect_none(client.post("/locate", json=_user("plane")))
        _eventually(lambda: not balanced.is_up("replica-2"))
        _expect_none(client.post("/locate", json=_user("plane")))
        _expect_none(client.get("/health/ready"))


class _Dying(BaseHTTPRequestHandler):
    """A replica that is ready but closes the connection on every request. `seen`: requests of all replicas together."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            self.send_response(200)
            self.end_headers()
        else:
            self.seen.append(self.command)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(f"{self.command} {self.path}")

    def log_message(self, *_: object) -> None:
        pass


def test_only_users_requests_are_sent_again_after_a_replica_may_have_seen_them(haproxy: str) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Dying)) for _ in REPLICAS]
        for replica in replicas:
            threading.Thread(target=replica.serve_forever, daemon=True).start()
            stack.callback(replica.shutdown)
        urls = [f"http://127.0.0.1:{replica.server_port}" for replica in replicas]
        client, _, _ = stack.enter_context(haproxy_before(haproxy, urls))
        for path, times in (("/cells/plane/fingerprints", 1), ("/locate", 4)):
            _Dying.seen.clear()
            # On a connection that has been used before, HAProxy would hang up instead.
            answer = client.post(path, json={"cellId": "plane"}, headers={"Connection": "close"})
            assert (answer.status_code, answer.json()["cause"]) == (502, "SYSTEM_FAILURE")
            assert _Dying.seen == [f"POST {path}"] * times


def _expect_none(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    problem = answer.json()
    assert (problem["status"], problem["cause"]) == (503, "NOT_READY")
