"""Runs the app under uvicorn."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from service.background import Background, Job
from service.listening import bind_port, bind_unix, check_guarded, describe_url
from service.settings import Settings
from service.start_line import ServedParts, describe_start
from service.telemetry.access_log import log_refusal
from service.telemetry.logs import log_config
from service.telemetry.metrics import Metrics
from service.web.crowd import Crowd
from service.web.health import Draining
from service.web.http_protocol import LOOPBACK as _LOOPBACK
from service.web.http_protocol import ClientLimits, HttpProtocol, Refusal, close_slow_clients
from service.web.tls import PERIOD_S, Certificate, CertificateFollower, server_context

_log = logging.getLogger("fingerpost.server")

_SWITCH_S = 0.0005
# Longer than load balancers keep connections: a balancer must not send a request while the server closes.
_KEEP_ALIVE_S = 75
_CLOSING_S = 5.0  # for threads to finish, beyond the time for open requests
_ACCEPTED_AT_ONCE = 16  # connections
_NICE = 5
_TICKS = 10  # of a tenth of a second, between two looks for slow clients
_CLOSE = (b"connection", b"close")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 2**20  # bytes: a cell's arrays, uploads, exports; a single user's request takes less
_SPARE = 8 * 2**20  # bytes that a heap may keep for the next request


class ListeningWorker(NamedTuple):
    """A worker as the process itself knows it: its number among the workers of a port, and its Unix socket."""

    number: int
    socket: Path


def serve(
    app: ASGIApp,
    settings: Settings,
    draining: Draining,
    background: Background,
    metrics: Metrics,
    parts: ServedParts,
    crowd: Crowd,
    worker: ListeningWorker | None = None,
) -> None:
    """Serves until SIGINT or a second SIGTERM, or for `drain_s` after the first SIGTERM; then finishes open requests.

    The first SIGTERM begins `draining`: each answer then closes its connection, so that load balancers send no more
    requests on it. `background` follows the TLS certificate; `metrics` count refusals that never reach the app, those
    of the `crowd` among them. Prints
    where it serves which `parts` once it listens. A `worker` listens on its Unix socket instead of the port; its
    parent checks the public address and ends TLS. Raises `Unguarded`, `TlsUnusable`, or `OSError` when the
    port is taken.
    """
    if worker is None:
        check_guarded(settings)
    tls = _load_tls(settings) if worker is None else None
    # With Python's default of 5 ms the event loop waits for the model's thread longer than the model takes.
    sys.setswitchinterval(_SWITCH_S)
    # Objects that exist now live as long as the process: exclude them from garbage collection, which blocks the loop.
    gc.collect()
    gc.freeze()
    limits = ClientLimits(
        settings.connection_limit,
        settings.head_timeout_s,
        _KEEP_ALIVE_S,
        settings.write_timeout_s,
        settings.answers_limit_bytes,
    )

    def note_refusal(refusal: Refusal) -> None:
        if refusal.route is None:
            metrics.refused(refusal.cause)
        else:
            metrics.answered(refusal.route, refusal.status, refusal.seconds, refusal.cause)
        if settings.access_log:
            log_refusal(refusal.route, refusal.status, refusal.cause, refusal.client)

    config = uvicorn.Config(
        app,
        log_config=log_config(settings, worker and worker.number),
        access_log=False,  # `service.telemetry.access_log` writes it
        server_header=False,
        proxy_headers=settings.access_log,  # only access logs use the client's address
        forwarded_allow_ips=None if worker is None else _trust_balancer(os.environ),
        http=partial(HttpProtocol, limits=limits, crowd=crowd, note_refusal=note_refusal),  # type: ignore[arg-type]
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_s) or 1,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again after the shutdown; the exit status must not report a failure.
        signal.signal(number, lambda *_: None)
    with bind_port(settings) if worker is None else bind_unix(worker.socket) as listening:
        listening.listen(config.backlog)
        # uvloop accepts one connection of each at every turn, and a turn may take as long as locating some users.
        sockets = [listening, *(listening.dup() for _ in range(_ACCEPTED_AT_ONCE - 1))]
        _Server(config, tls, draining, background, settings, limits, parts).run(sockets=sockets)


def give_back_large_arrays() -> None:
    """Makes glibc take large arrays from the system and return them when they are freed.

    By default glibc raises its mmap threshold to the largest array ever freed, up to 32 MiB, and keeps smaller arrays
    in heaps, about one a thread. Cells that change often fragment these heaps: the service grows by hundreds of MiB.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack mallopt and this behaviour
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE)
        set_option(_TRIM_THRESHOLD, _SPARE)


def give_way_to_balancer() -> None:
    """Lowers the priority of this worker: on busy cores its balancer must not wait behind the workers."""
    os.nice(_NICE)


def _trust_balancer(environment: Mapping[str, str]) -> str:
    """Whose `X-Forwarded-For` a worker believes: its own balancer's, whose Unix socket counts as loopback, and others'
    that uvicorn would believe.
    """
    trusted = environment.get("FORWARDED_ALLOW_IPS", _LOOPBACK)
    return trusted if trusted == "*" else f"{trusted},{_LOOPBACK}"


class _Tls(NamedTuple):
    certificate: Certificate
    context: ssl.SSLContext


def _load_tls(settings: Settings) -> _Tls | None:
    if settings.tls_certificate_file is None:
        return None
    certificate = Certificate(settings.tls_certificate_file, settings.tls_key_file)
    return _Tls(certificate, server_context(certificate, settings.tls_client_ca_file))


def _end_process_after(seconds: float) -> None:
    """Ends the process then, even if a thread blocks: Python waits without limit for threads of executors."""

    def end() -> None:
        time.sleep(seconds)
        blocked = [thread.name for thread in threading.enumerate() if not thread.daemon]
        _log.error("ended %g s after the shutdown began, although these threads still work: %s", seconds, blocked)
        os._exit(1)

    threading.Thread(target=end, name="shutdown-limit", daemon=True).start()


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        tls: _Tls | None,
        draining: Draining,
        background: Background,
        settings: Settings,
        limits: ClientLimits,
        parts: ServedParts,
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._parts = parts
        self._limits = limits
        self._tls = tls
        self._background = background
        self._draining = draining
        self._drained = float("inf")  # time.monotonic

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            if self._tls is not None:
                follower = CertificateFollower(self._tls.context, self._tls.certificate)
                self._background.start(Job("certificate", follower.follow, PERIOD_S))
            url = describe_url(sockets[0], tls=self._tls is not None)
            print(await asyncio.to_thread(describe_start, self._settings, url, self._parts), flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _end_process_after((self.config.timeout_graceful_shutdown or 0) + _CLOSING_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self.started and self._settings.drain_s and not self._draining.began:
            self._draining.began = True
            self._drained = time.monotonic() + self._settings.drain_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._draining.began and _CLOSE not in self.config.encoded_headers:
            _log.info("draining for %g s", self._settings.drain_s)
            self.config.encoded_headers.append(_CLOSE)  # uvicorn builds its default headers from these once a second
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        if counter % _TICKS == 0:
            connections = [one for one in self.server_state.connections if isinstance(one, HttpProtocol)]
            close_slow_clients(connections, self._limits, asyncio.get_running_loop().time())
        self.should_exit |= time.monotonic() >= self._drained
        return await super().on_tick(counter)
