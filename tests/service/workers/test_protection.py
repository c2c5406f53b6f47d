"""Keys, TLS and the limits of clients, with HAProxy before the workers."""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from service.auth.keys import edit_keys
from tests.redis_servers import GUARD_S, wait_until
from tests.service.tiny_service import added_key, bearing
from tests.service.workers.running import (
    Running,
    cell_of_each_worker,
    make_settings,
    running,
    skip_without_haproxy,
    user_in,
)

CONNECTIONS = 12


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def folder(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, `client.pem`, `server.pem` and `server.key`."""
    folder = tmp_path_factory.mktemp("protected")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    _certify(authority, folder)
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    return added_key(folder / "keys.json", ["locate", "operate", "read"])


@pytest.fixture(scope="module")
def service(folder: Path, key: str) -> Iterator[Running]:
    skip_without_haproxy()
    settings = make_settings(
        folder / "service",
        keys_file=folder / "keys.json",
        tls_certificate_file=folder / "server.pem",
        tls_key_file=folder / "server.key",
        tls_client_ca_file=folder / "ca.pem",
        access_log=True,
        connection_limit=CONNECTIONS,
        head_timeout_s=2,
        body_timeout_s=2,
    )
    with running(settings, folder / "log") as service:
        yield service


@pytest.fixture
def client(service: Running, folder: Path, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers=bearing(key), verify=_context(folder), timeout=GUARD_S) as client:
        yield client


def _certify(authority: trustme.CA, folder: Path) -> None:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))


def _context(folder: Path, *, certified: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if certified:
        context.load_cert_chain(folder / "client.pem")
    return context


def _connect(service: Running, folder: Path) -> ssl.SSLSocket:
    url = httpx.URL(service.url)
    plain = socket.create_connection((url.host, url.port or 443), timeout=GUARD_S)
    return _context(folder).wrap_socket(plain, server_hostname=url.host)


def test_a_new_key_and_a_revoked_one_reach_all_workers(client: httpx.Client, folder: Path) -> None:
    cells = cell_of_each_worker(client)
    new = added_key(folder / "keys.json", ["read"])

    def statuses() -> set[int]:
        return {client.get(f"/cells/{cell_id}", headers=bearing(new)).status_code for cell_id in cells.values()}

    wait_until(lambda: statuses() == {200}, "the new key does not work everywhere")
    with edit_keys(folder / "keys.json") as records:
        del records[-1]
    wait_until(lambda: statuses() == {401}, "the revoked key still works")


def test_joined_metrics_need_a_key_as_those_of_one_worker_do(
    client: httpx.Client, service: Running, folder: Path
) -> None:
    assert "fingerpost_worker_up" in client.get("/metrics").text
    refused = httpx.get(f"{service.url}/metrics", verify=_context(folder), timeout=GUARD_S)
    assert (refused.status_code, refused.json()["cause"]) == (401, "KEY_MISSING")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="fingerpost"'
    assert httpx.get(f"{service.url}/health/ready", verify=_context(folder), timeout=GUARD_S).status_code == 200


def test_clients_need_a_certificate(service: Running, folder: Path) -> None:
    assert service.url.startswith("https://")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/health/live", verify=_context(folder, certified=False), timeout=GUARD_S)


def test_a_renewed_certificate_is_used_without_a_restart(
    service: Running, client: httpx.Client, folder: Path, authority: trustme.CA
) -> None:
    def serial() -> str:
        with _connect(service, folder) as secure:
            certificate = secure.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    before = serial()
    assert client.get("/health/live").status_code == 200
    _certify(authority, folder)
    wait_until(lambda: serial() != before, "the old certificate is still in use")
    assert client.get("/health/live").status_code == 200


def test_the_access_log_has_the_client_and_the_worker(service: Running, folder: Path, key: str) -> None:
    elsewhere = httpx.HTTPTransport(verify=_context(folder), local_address="127.0.0.2")
    claim = {"X-Forwarded-For": "192.0.2.7"}
    with httpx.Client(transport=elsewhere, base_url=service.url, headers=bearing(key) | claim, timeout=60) as client:
        cells = cell_of_each_worker(client)
    for worker, cell_id in cells.items():
        # The address of the connection, not one that its client claims.
        line = re.compile(
            rf" GET /cells/{cell_id} 200 worker={worker[-1]} "
            rf"method=GET route=/cells/\{{cellId\}} path=/cells/{cell_id} "
            r"status=200 duration=\S+ client=127\.0\.0\.2$",
            re.MULTILINE,
        )
        wait_until(lambda line=line: line.search(service.log.read_text()), "the request is not logged")


def test_connections_over_the_limit_get_503_and_probes_are_answered(
    client: httpx.Client, service: Running, folder: Path
) -> None:
    idle = [_connect(service, folder) for _ in range(CONNECTIONS + 1)]
    try:
        with _connect(service, folder) as surplus:
            surplus.sendall(b"GET /cells HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = _read_all(surplus)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"cause":"TOO_MANY_CONNECTIONS"' in answer
        assert b"retry-after: 1\r\n" in answer.lower()
        assert httpx.get(f"{service.url}/health/ready", verify=_context(folder), timeout=GUARD_S).status_code == 200
    finally:
        for one in idle:
            one.close()
    wait_until(lambda: client.get("/cells").status_code == 200, "the limit stays reached")
    refused = re.search(
        r'^fingerpost_problems_total\{worker="haproxy",cause="TOO_MANY_CONNECTIONS"\} (\d+)\.0$',
        client.get("/metrics").text,
        re.MULTILINE,
    )
    assert refused is not None
    assert int(refused[1]) >= 1


def test_clients_that_send_slowly_are_refused(service: Running, folder: Path, key: str) -> None:
    with _connect(service, folder) as head, _connect(service, folder) as user, _connect(service, folder) as operator:
        head.sendall(b"GET /cells HTTP/1.1\r\n")
        for target, connection in ((b"POST /locate", user), (b"PUT /cells/cell-1/retention", operator)):
            connection.sendall(
                target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 1000\r\n\r\n{"
            )
        assert _read_all(head).startswith(b"HTTP/1.1 408 ")
        for connection in (user, operator):
            assert b'"cause":"BODY_TOO_SLOW"' in _read_all(connection, b"}")


def _read_all(connection: ssl.SSLSocket, end: bytes = b"\0") -> bytes:
    """What arrives until the connection closes, or until this end."""
    connection.settimeout(GUARD_S)
    data = b""
    while not data.endswith(end) and (more := connection.recv(65536)):
        data += more
    return data


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    (cell_id, *_) = cell_of_each_worker(client).values()
    body = user_in(cell_id) | {"padding": "x" * 17 * 2**20}
    refused = client.post("/locate", json=body)
    assert (refused.status_code, refused.json()["cause"]) == (413, "BODY_TOO_LARGE")
