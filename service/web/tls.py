"""TLS: the certificate of the service, and the client certificates that it asks for."""

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

from service.background import BlockingCalls, JobFailed

_log = logging.getLogger("fingerpost.tls")

PERIOD_S = 1.0


class TlsUnusable(Exception):
    """A certificate, key or client CA is missing or damaged, or the key is not the certificate's."""


class Certificate(NamedTuple):
    """PEM files: a certificate with its chain, and its private key. None: the key is in the certificate's file."""

    file: Path
    key_file: Path | None


def server_context(certificate: Certificate, client_ca: Path | None) -> ssl.SSLContext:
    """A context for TLS 1.2 or newer. `client_ca`: clients need a certificate of this CA. Raises `TlsUnusable`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise TlsUnusable(f"{client_ca} is not a client CA: {error}") from error
    return context


class CertificateFollower:
    """Loads a certificate again when its files change. Open connections keep the old one."""

    def __init__(self, context: ssl.SSLContext, certificate: Certificate) -> None:
        self._context = context
        self._certificate = certificate
        self._stamps = stamps_of(certificate)
        self._reading = BlockingCalls("certificate")

    async def follow(self) -> None:
        """Looks once. Raises `JobFailed` where the new files cannot be used: the certificate in use stays."""
        stamps = await self._reading.run(stamps_of, self._certificate)
        if stamps == self._stamps:
            return
        try:
            # A mismatch must not damage the context in use. Its handshakes run on the loop, so it is changed there.
            await self._reading.run(server_context, self._certificate, None)
            _load(self._context, self._certificate)
        except TlsUnusable as error:
            raise JobFailed(f"keeping the certificate in use: {error}") from error
        self._stamps = stamps
        _log.info("a new certificate is in use")


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    try:
        context.load_cert_chain(*certificate, password=_no_password)
    except OSError as error:
        names = " and ".join(str(path) for path in certificate if path is not None)
        raise TlsUnusable(f"{names}: not a certificate with its key: {error}") from error


def _no_password() -> str:
    """Without this OpenSSL would ask for a password at the terminal."""
    return ""


def stamps_of(certificate: Certificate) -> list[tuple[int, int] | None]:
    """What changes when the files of a certificate are replaced. Blocking."""
    return [None if path is None else _stamp(path) for path in certificate]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
