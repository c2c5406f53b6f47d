"""Web pages that reach for a service without keys, through a browser on the same machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.service.running import running
from tests.service.serving import serving
from tests.service.tiny_service import added_key, bearing, make_tiny_settings
from tests.service.web.test_http_protocol import connected, received

PROXY = "fingerpost.example"
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make_tiny_settings(tmp_path, allowed_hosts=[PROXY.title()])) as client:
        yield client


def cause_of(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["cause"] if answer.status_code >= 400 else None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:9000", True),  # through a port forward
        ("localhost.:8080", True),
        ("app.localhost", True),
        ("127.0.0.1:8080", True),
        ("127.8.9.1", True),
        ("[::1]:8080", True),
        (PROXY, True),
        (f"{PROXY}:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8080", False),
        (f"not{PROXY}", False),
        ("192.168.1.1", False),
        ("[2001:db8::1]", False),
        ("0.0.0.0", False),
        ("localhost@evil.example", False),
        ("", False),
        ("[", False),
    ],
)
async def test_without_keys_only_names_of_this_machine_and_configured_ones_are_answered(
    client: httpx.AsyncClient, host: str, allowed: bool
) -> None:
    for path in ("/health/live", "/cells", "/nowhere", "/docs", "/metrics"):
        status, cause = cause_of(await client.get(path, headers={"Host": host}))
        assert (cause == "HOST_NOT_ALLOWED") != allowed
        assert (status == 421) != allowed


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("POST", {"Origin": "http://localhost:9000"}, True),
        ("POST", {"Origin": "http://localhost:9000", "Sec-Fetch-Site": "same-origin"}, True),
        ("POST", {"Origin": f"https://{PROXY}", "Sec-Fetch-Site": "same-origin"}, True),  # a proxy that changes Host
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ("GET", LINK, True),
        ("POST", {}, True),
        ("POST", {"Origin": "http://evil.example"}, False),
        ("POST", {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
        ("POST", {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, False),
        ("POST", {"Origin": "http://localhost:3000"}, False),
        ("POST", {"Origin": "null"}, False),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, False),
        ("POST", LINK, False),  # a form
        ("GET", LINK | {"Sec-Fetch-Dest": "iframe"}, False),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ("OPTIONS", {"Origin": "http://evil.example"}, False),  # before a request that is not simple
    ],
)
async def test_without_keys_pages_of_other_origins_are_refused(
    client: httpx.AsyncClient, method: str, headers: dict[str, str], allowed: bool
) -> None:
    for path in ("/cells/c/fingerprints/delete", "/cells", "/locate", "/models/x:activate"):
        status, cause = cause_of(await client.request(method, path, headers={"Host": "localhost:9000"} | headers))
        assert ((status, cause) == (403, "CROSS_ORIGIN")) != allowed, path


@pytest.mark.anyio
async def test_with_keys_any_host_and_origin_is_answered(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = added_key(file, ["read"])
    others = {"Host": "bs.example", "Origin": "http://console.example", "Sec-Fetch-Site": "cross-site"}
    async with running(make_tiny_settings(tmp_path, keys_file=file)) as client:
        assert (await client.get("/cells", headers=others | bearing(key))).status_code == 200
        assert cause_of(await client.get("/cells", headers=others)) == (401, "KEY_MISSING")


def test_a_page_elsewhere_cannot_delete_fingerprints(tmp_path: Path) -> None:
    with serving(make_tiny_settings(tmp_path)) as url, httpx.Client(base_url=url, timeout=60) as client:
        before = client.get("/cells/c").json()["fingerprints"]
        target, everything = "/cells/c/fingerprints/delete?force=true", b'{"measuredBefore": "2030-01-01T00:00:00Z"}'
        answers = [
            client.post(target, content=everything, headers={"Origin": "http://evil.example"} | JSON),
            client.post(target, content=everything, headers={"Host": "evil.example"} | JSON),
            client.post(target, content=everything),
            client.post(target, content=everything, headers={"Content-Type": "text/plain"}),
        ]
        assert [cause_of(answer) for answer in answers] == [
            (403, "CROSS_ORIGIN"),
            (421, "HOST_NOT_ALLOWED"),
            (415, "UNSUPPORTED_MEDIA_TYPE"),
            (415, "UNSUPPORTED_MEDIA_TYPE"),
        ]
        assert client.get("/cells/c").json()["fingerprints"] == before


@pytest.mark.parametrize("keyed", [False, True])
def test_a_body_needs_a_content_type_and_a_request_one_host(tmp_path: Path, keyed: bool) -> None:
    file = tmp_path / "keys.json"
    key = f"Authorization: Bearer {added_key(file, ['operate', 'locate'])}\r\n".encode()
    requests = [
        (b"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n%s\r\n{}", b"415 "),
        (
            b"POST /locate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s\r\n2\r\n{}\r\n0\r\n\r\n",
            b"415 ",
        ),
        (b"POST /models/x:activate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n%s\r\n{}", b"415 "),
        (b"POST /models/x:activate HTTP/1.1\r\nHost: localhost\r\n%s\r\n", b"404 "),
        (b"GET /health/live HTTP/1.1\r\n%s\r\n", b"400 "),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n%s\r\n", b"400 "),
        (b"GET /health/live HTTP/1.0\r\n%s\r\n", b"200 "),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n%s\r\n", b"200 "),
    ]
    with serving(make_tiny_settings(tmp_path, keys_file=file if keyed else None)) as url:
        for sent, status in requests:
            with connected(url) as connection:
                connection.sendall(sent % (b"Connection: close\r\n" + key))
                assert received(connection)[9:13] == status, sent
