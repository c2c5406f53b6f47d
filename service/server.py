"""Runs the app under uvicorn."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import sys
import time
from ipaddress import ip_address
from types import FrameType
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from service.settings import Settings
from service.telemetry.logs import log_config
from service.web.health import Draining
from service.web.http_protocol import HttpProtocol
from service.web.tls import Certificate, follow_certificate, server_context

_log = logging.getLogger("fingerpost.server")

_SWITCH_S = 0.0005
# Longer than load balancers keep their connections: who closes one first must not be the one who is asked.
_KEEP_ALIVE_S = 75
_CLOSE = (b"connection", b"close")


class Unguarded(Exception):
    """Nothing would keep strangers out; the text is fit for a person."""


def serve(app: ASGIApp, settings: Settings, draining: Draining) -> None:
    """Serves until SIGINT, or for `drain_s` after SIGTERM, or until a second one; then finishes what is in progress.

    From the first SIGTERM on `draining` has begun, and every answer closes its connection, so that no balancer sends a
    request on one that is about to go. Once it listens it prints ``fingerpost: serving at URL``. Raises `Unguarded`,
    `TlsUnusable`, or `OSError` when the port is taken.
    """
    check_guarded(settings)
    tls = _tls(settings)
    # Python's own 5 ms would let the event loop wait for the network's thread longer than the network takes.
    sys.setswitchinterval(_SWITCH_S)
    # What is there now stays: the collector need not look it through again and again, with the event loop waiting.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        log_config=log_config(settings),
        access_log=settings.access_log,
        server_header=False,
        proxy_headers=settings.access_log,  # nothing but its lines says where a request came from
        http=HttpProtocol,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_s) or 1,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal once more when all is done; to be told to stop is no failure.
        signal.signal(number, lambda *_: None)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=config.backlog) as listening:
        _Server(config, tls, draining, settings.drain_s).run(sockets=[listening])


def check_guarded(settings: Settings) -> None:
    """Raises `Unguarded` where others than this machine's own users could come in, and no key were asked of them."""
    if settings.keys_file is not None:
        return
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM) if settings.host else []
    except OSError:
        found = []
    if not found or not all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found):
        raise Unguarded(
            f"without keys only loopback addresses are served, not {settings.host!r}: make a key by `fingerpost keys "
            "add`, and name its file in FINGERPOST_KEYS_FILE"
        )


class _Tls(NamedTuple):
    certificate: Certificate
    context: ssl.SSLContext


def _tls(settings: Settings) -> _Tls | None:
    if settings.tls_certificate_file is None:
        return None
    certificate = Certificate(settings.tls_certificate_file, settings.tls_key_file)
    return _Tls(certificate, server_context(certificate, settings.tls_client_ca_file))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, tls: _Tls | None, draining: Draining, drain_s: float) -> None:
        super().__init__(config)
        self._tls = tls
        self._following: asyncio.Task[None] | None = None
        self._draining = draining
        self._drain_s = drain_s
        self._drained = float("inf")  # time.monotonic

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            if self._tls is not None:
                self._following = asyncio.create_task(follow_certificate(self._tls.context, self._tls.certificate))
            scheme = "http" if self._tls is None else "https"
            print(f"fingerpost: serving at {scheme}://{f'[{host}]' if ':' in host else host}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self.started and self._drain_s and not self._draining.began:
            self._draining.began = True
            self._drained = time.monotonic() + self._drain_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._draining.began and _CLOSE not in self.config.encoded_headers:
            _log.info("draining for %g s", self._drain_s)
            self.config.encoded_headers.append(_CLOSE)  # of which uvicorn makes default headers each second
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        self.should_exit |= time.monotonic() >= self._drained
        return await super().on_tick(counter)
