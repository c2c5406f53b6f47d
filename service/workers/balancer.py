"""HAProxy before the workers, as a child process, and the commands that it takes while it runs."""

import asyncio
import csv
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.settings import PREFIX, Settings
from service.workers.child import Child
from service.workers.haproxy import limits_as_variables, threads_for, worker_name, write_configuration

_log = logging.getLogger("fingerpost.balancer")

_BACKENDS = ("locate", "operators")
_UP, _ADMINISTERED = "2", "0"  # srv_op_state and srv_admin_state of a server that gets requests
_PAUSE_S = 0.05
_PATIENCE_S = 10.0
# What HAProxy warns of, it logs as well.
_LEVELS = {"[NOTICE]": logging.DEBUG, "[WARNING]": logging.DEBUG, "[ALERT]": logging.ERROR}


class BalancerFailed(Exception):
    """HAProxy did not start, or does not take a command."""


class Balancer:
    """Listens on a socket that stays open when HAProxy ends, so that clients wait while it is started again."""

    def __init__(self, program: str, settings: Settings, directory: Path, listening: socket.socket) -> None:
        """`directory` is private to this process and holds the sockets of HAProxy, of the workers and of the parent."""
        self._program = program
        self._settings = settings
        self._directory = directory
        self._listening = listening
        self._child: Child | None = None

    @property
    def parent_socket(self) -> Path:
        """Where HAProxy expects the parent process to answer for all workers."""
        return self._directory / "parent.sock"

    @property
    def worker_sockets(self) -> list[Path]:
        """Where HAProxy expects each worker."""
        numbers = range(1, self._settings.workers + 1)
        return [self._directory / f"{worker_name(number)}.sock" for number in numbers]

    @property
    def certificate_file(self) -> Path:
        """Where HAProxy expects the certificate and its key, if the settings name a certificate."""
        return self._directory / "certificate.pem"

    async def start(self) -> None:
        """Starts HAProxy and waits until it takes commands. Raises `BalancerFailed`."""
        configuration = self._directory / "haproxy.cfg"
        write_configuration(configuration, self.worker_sockets)
        (self._directory / "server-state").write_text("1\n")  # an empty one: HAProxy warns of a missing file
        self._admin_socket.unlink(missing_ok=True)
        command = [self._program, "-db", "-f", str(configuration)]
        descriptors = [self._listening.fileno()]
        try:
            self._child = await Child.start(
                command, self._environment(), _log_line, with_errors=True, descriptors=descriptors
            )
        except OSError as error:
            raise BalancerFailed(f"HAProxy cannot be started: {error}") from error
        while not await self._answers():
            if not self._child.is_running:
                raise BalancerFailed("HAProxy does not start; the log has its messages")
            await asyncio.sleep(_PAUSE_S)

    async def ended(self) -> int:
        """Waits for the end of HAProxy. Returns its exit status."""
        assert self._child is not None
        return await self._child.ended()

    async def stop(self, patience_s: float) -> None:
        """Accepts no more connections, lets requests finish, and ends HAProxy after the patience at the latest."""
        if self._child is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop_softly(self._child), patience_s)
        await self._child.stop(signal.SIGTERM, _PATIENCE_S)

    async def send_none_to(self, number: int) -> None:
        """HAProxy sends no more requests to a worker. Raises `BalancerFailed`."""
        await self._tell([f"set server {backend}/{worker_name(number)} state drain" for backend in _BACKENDS])

    async def send_to(self, number: int) -> None:
        """HAProxy sends requests to a worker again once its checks have found it ready. Raises `BalancerFailed`."""
        await self._tell([f"set server {backend}/{worker_name(number)} state ready" for backend in _BACKENDS])

    async def is_up(self, number: int) -> bool:
        """Whether a worker gets requests of its cells. Raises `BalancerFailed`."""
        table = (await self._ask("show servers state")).splitlines()
        columns = next(line for line in table if line.startswith("# ")).removeprefix("# ").split()
        rows = [dict(zip(columns, line.split(), strict=False)) for line in table]
        found = [row for row in rows if row.get("srv_name") == worker_name(number)]
        return bool(found) and all(
            (row["srv_op_state"], row["srv_admin_state"]) == (_UP, _ADMINISTERED) for row in found
        )

    async def close_connections(self) -> None:
        """From now on each answer closes its connection. Raises `BalancerFailed`."""
        await self._tell(["experimental-mode on; set var proc.draining bool(true)"])

    async def count_refusals(self) -> dict[str, int]:
        """How many requests HAProxy has refused, by cause. Raises `BalancerFailed`."""
        denied = await self._read_statistic("fingerpost 1", "dreq")
        unqueued = await self._read_statistic("locate 2", "econ")
        return {"TOO_MANY_CONNECTIONS": denied, "NF_CONGESTION": unqueued}

    async def take_certificate(self) -> None:
        """New connections get the certificate that the file has now. Raises `BalancerFailed`."""
        content = await asyncio.to_thread(self.certificate_file.read_text)
        await self._ask(f"set ssl cert {self.certificate_file} <<\n{content}")
        said = await self._ask(f"commit ssl cert {self.certificate_file}")
        if "Success" not in said:
            raise BalancerFailed(f"HAProxy does not take the certificate: {said.strip()}")

    async def _read_statistic(self, of: str, column: str) -> int:
        """`of`: a proxy's name and the bit of its side, 1 towards clients and 2 towards servers."""
        table = (await self._ask(f"show stat {of} -1")).removeprefix("# ").splitlines()
        (row,) = csv.DictReader(filter(None, table))
        return int(row[column])

    @property
    def _admin_socket(self) -> Path:
        return self._directory / "admin.sock"

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        variables = limits_as_variables(
            settings.connection_limit,
            settings.waiting_limit,
            settings.head_timeout_s,
            settings.body_timeout_s,
            settings.write_timeout_s,
        ) | {
            "FINGERPOST_HAPROXY_BIND": f"fd@{self._listening.fileno()}",
            "FINGERPOST_HAPROXY_METRICS": f"unix@{self._directory}/observers.sock",
            "FINGERPOST_HAPROXY_DIRECTORY": str(self._directory),
            "FINGERPOST_HAPROXY_PARENT": str(self.parent_socket),
            "FINGERPOST_HAPROXY_THREADS": str(threads_for(settings.workers)),
        }
        if settings.tls_certificate_file is not None:
            variables["FINGERPOST_HAPROXY_CERTIFICATE"] = str(self.certificate_file)
        if settings.tls_client_ca_file is not None:
            variables["FINGERPOST_HAPROXY_CLIENT_CA"] = str(settings.tls_client_ca_file.resolve())
        return kept | variables

    async def _answers(self) -> bool:
        try:
            await self._ask("show info")
        except BalancerFailed:
            return False
        return True

    async def _tell(self, commands: Sequence[str]) -> None:
        for command in commands:
            if said := (await self._ask(command)).strip():
                raise BalancerFailed(f"HAProxy does not take {command!r}: {said}")

    async def _ask(self, command: str) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(self._admin_socket)
                try:
                    writer.write(f"{command}\n".encode())
                    return (await reader.read()).decode()
                finally:
                    writer.close()
        except OSError as error:  # also TimeoutError
            raise BalancerFailed(f"HAProxy does not answer: {error or 'in time'}") from error

    @staticmethod
    async def _stop_softly(child: Child) -> None:
        child.send(signal.SIGUSR1)
        await child.ended()


def _log_line(line: str) -> None:
    level = next((level for mark, level in _LEVELS.items() if line.startswith(mark)), logging.INFO)
    _log.log(level, "%s", line)
