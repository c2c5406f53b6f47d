"""Two real replicas on one reference database, behind a real HAProxy with the shipped configuration."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.redis_servers import wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
DEADLINE_S = 60.0
REPLICAS = ("replica-1", "replica-2")


class Balanced(NamedTuple):
    """A client of HAProxy, HAProxy's own metrics and admin socket, and the replicas by HAProxy's names for them."""

    client: httpx.Client
    metrics_url: str
    admin_socket: Path
    replica_urls: dict[str, str]
    replicas: dict[str, subprocess.Popen[str]]
    start: Callable[[str], subprocess.Popen[str]]  # starts a replica at a port

    def stop(self, replica: str) -> None:
        """Stops a replica without a drain."""
        self.replicas[replica].send_signal(signal.SIGINT)
        assert self.replicas[replica].wait(DEADLINE_S) == 0

    def restart(self, replica: str) -> None:
        """SIGTERM, then a new replica at the same port; returns once HAProxy sends users there."""
        self.replicas[replica].terminate()
        assert self.replicas[replica].wait(DEADLINE_S) == 0
        assert not self.is_up(replica)
        url = self.replica_urls[replica]
        self.replicas[replica] = self.start(url.rpartition(":")[2])
        assert url_of(self.replicas[replica]) == url
        wait_until(lambda: self.is_up(replica), f"HAProxy sends no users to {replica}")

    def is_up(self, replica: str) -> bool:
        """Whether the replica is up by HAProxy's health checks."""
        text = httpx.get(f"{self.metrics_url}/metrics", timeout=DEADLINE_S).text
        up = re.search(rf'^haproxy_server_status{{proxy="locate",server="{replica}",state="UP"}} (\d)', text, re.M)
        assert up is not None, text
        return up[1] == "1"

    def tell(self, command: str) -> str:
        """HAProxy's answer to a command at its admin socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(DEADLINE_S)
            admin.connect(str(self.admin_socket))
            admin.sendall(f"{command}\n".encode())
            return admin.makefile().read().strip()

    def answered(self, route: str) -> dict[str, float]:
        """How many requests each replica has answered, by its own metrics."""
        pattern = re.compile(rf'^fingerpost_requests_total{{route="{route}",.*}} (\S+)', re.M)
        texts = {name: httpx.get(f"{url}/metrics", timeout=DEADLINE_S).text for name, url in self.replica_urls.items()}
        return {name: sum(map(float, pattern.findall(text))) for name, text in texts.items()}


def haproxy_binary() -> str | None:
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def balance(haproxy: str, database: str | Path, **settings: object) -> Iterator[Balanced]:
    """Two replicas on a directory or Redis. `settings` have the names of `Settings`; calibration uses few samples."""
    chosen = {
        "redis_url" if "://" in str(database) else "database_directory": database,
        "inference_threads": 1,
        "calibration_samples": 20,
        "calibration_sigmas_m": "[1.0]",
    } | settings
    environment = {f"FINGERPOST_{name.upper()}": str(value) for name, value in chosen.items()}
    with ExitStack() as stack:

        def start(port: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "fingerpost", "serve", "--port", port]
            # SIGINT stops without a drain.
            return stack.enter_context(running(command, environment, stop=signal.SIGINT))

        replicas = {name: start("0") for name in REPLICAS}
        urls = {name: url_of(process) for name, process in replicas.items()}
        client, observers, admin_socket = stack.enter_context(haproxy_before(haproxy, list(urls.values())))
        yield Balanced(client, observers, admin_socket, urls, replicas, start)


@contextmanager
def haproxy_before(haproxy: str, urls: list[str]) -> Iterator[tuple[httpx.Client, str, Path]]:
    """A client of HAProxy in front of the two replicas, the URL of HAProxy's metrics, and its admin socket."""
    with ExitStack() as stack:
        # The paths of pytest's directories may be too long for a socket.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="haproxy")))
        (directory / "server-state").write_text("1\n")
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        users, observers = (f"http://127.0.0.1:{listening.getsockname()[1]}" for listening in sockets)
        addresses = {
            "FINGERPOST_HAPROXY_BIND": f"fd@{sockets[0].fileno()}",
            "FINGERPOST_HAPROXY_METRICS": f"fd@{sockets[1].fileno()}",
            "FINGERPOST_HAPROXY_DIRECTORY": str(directory),
        }
        for i, url in enumerate(urls, 1):
            addresses[f"FINGERPOST_REPLICA_{i}"] = url.removeprefix("http://")
        log = stack.enter_context((directory / "log").open("w"))
        command = [haproxy, "-db", "-f", str(CONFIGURATION)]
        stack.enter_context(running(command, addresses, [one.fileno() for one in sockets], log))
        client = stack.enter_context(httpx.Client(base_url=users, timeout=DEADLINE_S))
        yield client, observers, directory / "admin.sock"


@contextmanager
def running(
    command: list[str],
    environment: dict[str, str],
    descriptors: list[int] | None = None,
    out: Any = subprocess.PIPE,
    err: Any = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[str]]:
    """Stops the process at the end in every case."""
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=out, stderr=err, text=True, pass_fds=descriptors or ()
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(stop)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def url_of(replica: subprocess.Popen[str]) -> str:
    assert replica.stdout is not None
    line = replica.stdout.readline()
    assert line.startswith("fingerpost: serving at "), line
    return line.removeprefix("fingerpost: serving at ").split()[0]
