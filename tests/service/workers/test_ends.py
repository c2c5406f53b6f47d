"""How a service with workers starts and ends."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from service.commands.cli import app
from service.workers import haproxy
from tests.redis_servers import GUARD_S, wait_until
from tests.service.workers.running import CELLS, is_alive, make_settings, running, skip_without_haproxy, user_in


def test_a_draining_service_serves_on_until_a_second_sigterm_and_is_not_ready(tmp_path: Path) -> None:
    skip_without_haproxy()
    settings = make_settings(tmp_path / "service", drain_s=3600, log_format="json")
    with (
        running(settings, tmp_path / "log") as service,
        httpx.Client(base_url=service.url, timeout=GUARD_S) as client,
    ):
        children = service.children()
        kept = client.post("/locate", json=user_in(CELLS[0]))
        assert (kept.status_code, "Connection" in kept.headers) == (200, False)
        service.process.terminate()
        wait_until(lambda: client.get("/health/ready").status_code == 503, "readiness does not fail")
        draining = client.get("/health/ready")
        assert draining.json()["cause"] == "DRAINING"
        for cell_id in CELLS:
            served = client.post("/locate", json=user_in(cell_id))
            assert (served.status_code, served.headers["Connection"]) == (200, "close")
        assert client.get("/health/live").status_code == 200
        service.process.terminate()
        assert service.process.wait(GUARD_S) == 0
        assert not any(map(is_alive, children))
    for line in (tmp_path / "log").read_text().splitlines():
        assert {"level", "logger", "message"} <= json.loads(line).keys()


def test_new_connections_are_refused_while_the_last_requests_are_served(tmp_path: Path) -> None:
    skip_without_haproxy()
    settings = make_settings(tmp_path / "service", drain_s=0, shutdown_s=GUARD_S)
    with running(settings, tmp_path / "log") as service:
        address = (urlsplit(service.url).hostname, urlsplit(service.url).port)

        def is_refused() -> bool:
            try:
                socket.create_connection(address).close()
            except ConnectionRefusedError:
                return True
            return False

        with socket.create_connection(address, timeout=GUARD_S) as late:
            body = json.dumps(user_in(CELLS[0])).encode()
            head = f"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            late.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body[:-1])
            service.process.terminate()
            wait_until(is_refused, "new connections are taken")
            late.sendall(body[-1:])
            assert late.recv(12) == b"HTTP/1.1 200"
        assert service.process.wait(GUARD_S) == 0


def test_a_parent_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    skip_without_haproxy()
    with running(make_settings(tmp_path / "service"), tmp_path / "log") as service:
        assert len(service.children()) == 3
        service.process.kill()
        service.process.wait(GUARD_S)  # `running` looks for what is left


def test_without_haproxy_the_line_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy, "_PLACES", "/nowhere")
    refused = CliRunner().invoke(app, ["serve", "--workers", "2"])
    assert refused.exit_code == 2
    assert refused.stderr == (
        "fingerpost: 2 workers need HAProxy 2.6 or newer, which is not installed: install the Debian package haproxy\n"
    )


def test_an_old_haproxy_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "haproxy"
    old.write_text("#!/bin/sh\necho 'HAProxy version 2.4.22-0ubuntu0.22.04.3 2023/12/04'\n")
    old.chmod(0o755)
    monkeypatch.setattr(haproxy, "_PLACES", str(tmp_path))
    refused = CliRunner().invoke(app, ["serve", "--workers", "2"])
    assert refused.exit_code == 2
    assert f"; {old} is version 2.4" in refused.stderr


def test_a_public_address_needs_keys() -> None:
    skip_without_haproxy()
    refused = CliRunner().invoke(app, ["serve", "--workers", "2", "--host", "0.0.0.0"])
    assert refused.exit_code == 1
    assert "a public address needs API keys" in refused.stderr


def test_a_port_that_is_taken_is_refused_before_a_worker_starts() -> None:
    skip_without_haproxy()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # A process of its own: the parent of workers sets up the logs.
        command = [sys.executable, "-m", "fingerpost", "serve", "--workers", "2", "--port", str(port)]
        refused = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=GUARD_S)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"fingerpost: cannot serve at 127.0.0.1:{port}: Address already in use\n",
    )


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    skip_without_haproxy()
    command = [sys.executable, "-m", "fingerpost", "serve", "--workers", "2", "--port", "0", "--artifact", tmp_path]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=GUARD_S)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.count("the artifact cannot be served") == 1
