"""The parent of the workers: starts them and HAProxy, replaces what ends, and stops everything.

Signals, as the service itself takes them: SIGTERM drains and stops, SIGINT or a second SIGTERM stops at once. SIGHUP
restarts the workers one after the other.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import suppress
from logging.config import dictConfig

from service.child_environment import environment_of_this_package
from service.listening import bind_port, check_guarded, describe_url
from service.settings import Settings
from service.telemetry.logs import log_config
from service.telemetry.worker_metrics import WorkerMetrics
from service.web.tls import Certificate
from service.workers.balancer import Balancer, BalancerFailed
from service.workers.certificate import PortCertificate
from service.workers.division import divide, worker_environment
from service.workers.haproxy import find_haproxy
from service.workers.private_directory import private_directory
from service.workers.scrapes import Scrapes, ScrapeServer
from service.workers.worker import Worker

_log = logging.getLogger("fingerpost.workers")

_BACKLOG = 2048
_LATER_S = 10.0  # a worker ends itself 5 s after its time for open requests
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0  # before a child that ended is started again
_STEADY_S = 60.0  # a child that ran so long is started again at once
_READY_S = 120.0  # a new worker that is not ready by then ends a rolling restart
_POLL_S = 0.1


class WorkerFailed(Exception):
    """The first worker ended before it served; it has said why. `status`: its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status if status > 0 else 1


def serve_with_workers(settings: Settings) -> int:
    """Serves until a signal. Returns the exit status.

    Raises `HaproxyMissing`, `BalancerFailed`, `service.listening.Unguarded`, `service.web.tls.TlsUnusable`,
    `WorkerFailed`, or `OSError` when the port is taken.
    """
    program = find_haproxy(settings.workers)
    check_guarded(settings)
    dictConfig(log_config(settings))
    with private_directory() as directory, bind_port(settings) as listening:
        balancer = Balancer(program, settings, directory, listening)
        certificate = None
        if settings.tls_certificate_file is not None:
            files = Certificate(settings.tls_certificate_file, settings.tls_key_file)
            certificate = PortCertificate(files, settings.tls_client_ca_file, balancer)
        return asyncio.run(_Parent(settings, balancer, listening, certificate).run())


class _Parent:
    def __init__(
        self, settings: Settings, balancer: Balancer, listening: socket.socket, certificate: PortCertificate | None
    ) -> None:
        environment = environment_of_this_package(worker_environment(divide(settings), os.environ))
        self._settings = settings
        self._balancer = balancer
        self._listening = listening
        self._certificate = certificate
        metrics = WorkerMetrics(settings.workers)
        sockets = balancer.worker_sockets
        self._workers = [
            Worker(i, path, environment, metrics.starts.labels(str(i)).inc) for i, path in enumerate(sockets, 1)
        ]
        self._scrapes = Scrapes(sockets, metrics, balancer.count_refusals)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._restart = asyncio.Event()

    async def run(self) -> int:
        """See `serve_with_workers`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        # A terminal that closes sends SIGHUP too, unless `nohup` keeps it away.
        closing = _has_terminal() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup, closing)
        server = ScrapeServer(self._scrapes)
        scraping = asyncio.create_task(server.listen(self._balancer.parent_socket))
        serving, stopping = asyncio.create_task(self._serve()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([serving, stopping, scraping], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            if scraping.done():
                scraping.result()
            await self._drain()
        finally:
            for task in (serving, stopping):
                task.cancel()
            await asyncio.wait([serving, stopping])
            status = await self._end()
            server.should_exit = True
            await asyncio.wait([scraping])
        return status

    async def _serve(self) -> None:
        """Starts everything, then replaces what ends. Raises `WorkerFailed` or `BalancerFailed` for the start."""
        first, *others = self._workers
        said = await self._start_first(first)  # what is wrong with settings or artifacts is said once
        await asyncio.gather(*(self._start_first(worker) for worker in others))
        self._listening.listen(_BACKLOG)
        await self._balancer.start()
        url = describe_url(self._listening, tls=self._certificate is not None)
        print(said.replace(f"unix:{first.socket}", url), flush=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._restart_when_told())
            group.create_task(self._keep_balancer())
            if self._certificate is not None:
                group.create_task(self._certificate.follow())
            for worker in self._workers:
                group.create_task(self._keep_worker(worker))

    @staticmethod
    async def _start_first(worker: Worker) -> str:
        said = await worker.start()
        if said is None:
            raise WorkerFailed(await worker.ended())
        return said

    async def _keep_balancer(self) -> None:
        pause = _Pause()
        while True:
            status = await self._balancer.ended()
            await pause.sleep_after(f"HAProxy ended with status {status}")
            with suppress(BalancerFailed):  # it has ended again
                await self._balancer.start()

    async def _keep_worker(self, worker: Worker) -> None:
        pause = _Pause()
        while True:
            await worker.ended()
            async with worker.changing:
                if not worker.is_running:  # else a rolling restart has started it again
                    await pause.sleep_after(f"worker {worker.number} ended with status {await worker.ended()}")
                    await self._start(worker)

    async def _start(self, worker: Worker) -> bool:
        """Starts a worker and has HAProxy send requests to it. Returns whether it serves; else it has ended."""
        try:
            if await asyncio.wait_for(worker.start(), _READY_S) is None:
                return False
        except TimeoutError:
            _log.error("worker %d does not start within %g s", worker.number, _READY_S)
            await worker.stop(signal.SIGKILL, _LATER_S)
            return False
        try:
            await self._balancer.send_to(worker.number)
        except BalancerFailed as error:  # a new HAProxy sends requests to all workers
            _log.warning("%s", error)
        return True

    async def _restart_when_told(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            _log.info("restarting the workers one after the other")
            for worker in self._workers:
                if not await self._restart_worker(worker):
                    _log.error("worker %d does not become ready: the others are not restarted", worker.number)
                    break
            else:
                _log.info("all workers have been restarted")

    async def _restart_worker(self, worker: Worker) -> bool:
        """Restarts one without losing a request. Returns whether it is ready in time."""
        async with worker.changing:
            try:
                await self._balancer.send_none_to(worker.number)
            except BalancerFailed as error:
                _log.warning("%s", error)
                return False
            await worker.stop(signal.SIGTERM, self._settings.drain_s + self._settings.shutdown_s + _LATER_S)
            if not await self._start(worker):
                return False
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while not await self._is_up(worker):
                    await asyncio.sleep(_POLL_S)
                return True
        return False

    async def _is_up(self, worker: Worker) -> bool:
        try:
            return await self._balancer.is_up(worker.number)
        except BalancerFailed:
            return False

    async def _drain(self) -> None:
        """Serves on for `drain_s`, not ready, and closes each connection after its answer."""
        if self._hurry.is_set() or not self._settings.drain_s:
            return
        _log.info("draining for %g s", self._settings.drain_s)
        self._scrapes.draining = True
        try:
            await self._balancer.close_connections()
        except BalancerFailed:  # it has not been started
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._settings.drain_s)

    async def _end(self) -> int:
        """Stops HAProxy and then the workers, each within `shutdown_s`. Returns the exit status."""
        self._listening.close()  # else the system takes connections until HAProxy has served its last request
        await self._balancer.stop(self._settings.shutdown_s)
        patience = self._settings.shutdown_s + _LATER_S
        statuses = await asyncio.gather(*(worker.stop(signal.SIGINT, patience) for worker in self._workers))
        return int(any(statuses))

    def _on_terminate(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _on_interrupt(self) -> None:
        self._hurry.set()
        self._stop.set()

    def _on_hangup(self, had_terminal: bool) -> None:
        if had_terminal and not _has_terminal():
            self._on_terminate()
        else:
            self._restart.set()


class _Pause:
    """The pause before a child that has ended is started again: twice the last one, unless the child has lasted."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._since = time.monotonic()

    async def sleep_after(self, what_happened: str) -> None:
        lasted = time.monotonic() - self._since > _STEADY_S
        self._seconds = _FIRST_PAUSE_S if lasted else min(max(2 * self._seconds, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        _log.error("%s: starting it again in %g s", what_happened, self._seconds)
        await asyncio.sleep(self._seconds)
        self._since = time.monotonic()


def _has_terminal() -> bool:
    """Whether this process has a terminal that could send SIGHUP when it is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
