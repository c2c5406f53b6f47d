"""Servers under test: started on a free port, watched, stopped by their process ids."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_START_S, _STOP_S, _ORPHANS_S = 120.0, 30.0, 2.0


class NotStarted(RuntimeError):
    """A server ended, or did not answer in time. The text ends with its output."""


@dataclass(frozen=True)
class Usage:
    """Of a server process and all its children."""

    cpu_s: float
    memory_bytes: int  # proportional set size: shared pages count once


@dataclass(frozen=True)
class Command:
    """How to start a server in `folder`; None: in the current one. "{port}" stands for its port.

    The server is up when `path` answers 200.
    """

    name: str
    words: tuple[str, ...]
    path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class Server:
    name: str
    process: psutil.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def read_metrics(self) -> list[Sample]:
        """All samples of one scrape."""
        text = httpx.get(f"{self.url}/metrics").raise_for_status().text
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def usage(self) -> Usage:
        cpu, memory = 0.0, 0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_full_info().pss
        return Usage(cpu, memory)

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@dataclass(frozen=True)
class Checkout:
    """A checkout of this repository. Its commands run its own code, with this process's interpreter."""

    folder: Path

    def command(self, *words: str) -> tuple[str, ...]:
        """`fingerpost WORDS`, to be run in `folder`: Python looks for modules there first."""
        module = "fingerpost" if (self.folder / "fingerpost" / "__main__.py").exists() else "service"
        return (sys.executable, "-m", module, *words)


THIS_CHECKOUT = Checkout(Path(__file__).parents[2])


def fingerpost(database: Path | str, artifact: Path, workers: int = 1, checkout: Checkout = THIS_CHECKOUT) -> Command:
    """With default settings, but without a drain on SIGTERM: no load balancer has to notice the stop."""
    place = database if isinstance(database, str) else str(database.resolve())
    words = checkout.command("serve", "--port", "{port}", "--database", place, "--artifact", str(artifact.resolve()))
    words += ("--workers", str(workers)) if workers > 1 else ()
    return Command("Fingerpost", words, "/health/ready", {"FINGERPOST_DRAIN_S": "0"}, checkout.folder)


@contextlib.contextmanager
def running(command: Command) -> Iterator[Server]:
    """Yields the ready server; stops it and all its children at the end. Raises `NotStarted`."""
    port = _free_port()
    words = [word.replace("{port}", str(port)) for word in command.words]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, env=os.environ | command.environment, cwd=command.folder
        )
        server = Server(command.name, psutil.Process(process.pid), port)
        try:
            if not _ready(process, server.url + command.path):
                log.seek(0)
                raise NotStarted(f"{command.name} did not start: {log.read()[-2000:]}")
            yield server
        finally:
            _stop(process, server)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _ready(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return True
        time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes], server: Server) -> None:
    """SIGTERM to the server, SIGKILL to processes of its family that outlive it."""
    family = server.family() if process.poll() is None else []
    process.terminate()
    psutil.wait_procs(family[:1], timeout=_STOP_S)
    _, alive = psutil.wait_procs(family, timeout=_ORPHANS_S)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(alive, timeout=_ORPHANS_S)
    process.wait(timeout=_STOP_S)
