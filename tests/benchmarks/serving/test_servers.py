import sys

import httpx
import psutil
import pytest

from benchmarks.serving.servers import Command, NotStarted, running
from tests.redis_servers import GUARD_S, wait_until

BUSY = """
import http.server, os, sys, threading, time
if os.fork() == 0:  # a child that holds memory and must end with its parent
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    while time.process_time() < 0.2:  # on a fast machine, too
        pass
    threading.Event().wait()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_usage_includes_children_and_all_processes_end() -> None:
    command = Command("busy", (sys.executable, "-c", BUSY, "{port}"), "/")
    with running(command) as server:
        assert httpx.get(server.url, timeout=GUARD_S).status_code == 200
        family = server.family()
        assert len(family) == 2
        wait_until(lambda: server.usage().cpu_s >= 0.1, "it uses no CPU")
        wait_until(lambda: server.usage().memory_bytes > 64 << 20, "its child holds no memory")
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def test_the_error_has_the_output_of_a_server_that_ended() -> None:
    command = Command("broken", (sys.executable, "-c", "raise SystemExit('no such luck')"), "/")
    with pytest.raises(NotStarted, match="broken did not start: no such luck"), running(command):
        pass


def test_a_server_gets_its_environment() -> None:
    serve = "import os, runpy, sys; os.chdir(os.environ['ROOM']); runpy.run_module('http.server', run_name='__main__')"
    command = Command("room", (sys.executable, "-c", serve, "{port}"), "/hostname", {"ROOM": "/proc/sys/kernel"})
    with running(command) as server:
        assert server.port > 0
