import sys

import httpx
import psutil
import pytest

from benchmarks.serving.servers import Command, NotStarted, running

BUSY = """
import http.server, os, sys, threading, time
if os.fork() == 0:  # a child that holds memory, and is to go as its parent does
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    while time.process_time() < 0.2:  # however quick the machine
        pass
    threading.Event().wait()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_server_and_its_children_are_watched_and_then_gone() -> None:
    command = Command("busy", (sys.executable, "-c", BUSY, "{port}"), "/")
    with running(command) as server:
        assert httpx.get(server.url).status_code == 200
        family = server.family()
        assert len(family) == 2
        while (used := server.usage()).cpu_s < 0.1:
            pass
        assert used.memory_bytes > 64 << 20
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def test_a_server_that_ends_says_why_it_did() -> None:
    command = Command("broken", (sys.executable, "-c", "raise SystemExit('no such luck')"), "/")
    with pytest.raises(NotStarted, match="broken did not start: no such luck"), running(command):
        pass


def test_its_environment_reaches_a_server() -> None:
    serve = "import os, runpy, sys; os.chdir(os.environ['ROOM']); runpy.run_module('http.server', run_name='__main__')"
    command = Command("room", (sys.executable, "-c", serve, "{port}"), "/hostname", {"ROOM": "/proc/sys/kernel"})
    with running(command) as server:
        assert server.port > 0
