"""TLS: how the service proves itself, and how those who ask must prove themselves."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import NamedTuple

_log = logging.getLogger("fingerpost.tls")

_PERIOD_S = 1.0


class TlsUnusable(Exception):
    """A certificate, key or client CA is not there, damaged, or does not belong to the others."""


class Certificate(NamedTuple):
    """A certificate and its chain, and its private key, as PEM files; the key may lie in the certificate's file."""

    file: Path
    key_file: Path | None


def server_context(certificate: Certificate, client_ca: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with a client CA only whoever has a certificate of it comes in. Raises `TlsUnusable`."""
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
            raise TlsUnusable(f"{client_ca} is no client CA: {error}") from error
    return context


async def follow_certificate(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Proves itself by the new certificate whenever its files change, for ever. Connections go on by the old one."""
    stamps = _stamps(certificate)
    while True:
        await asyncio.sleep(_PERIOD_S)
        if (now := _stamps(certificate)) == stamps:
            continue
        stamps = now
        try:
            server_context(certificate, None)  # one that half fits would spoil the context in use
            _load(context, certificate)
        except TlsUnusable as error:
            _log.error("the certificate in use stays: %s", error)
        else:
            _log.info("a new certificate is in use")


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    try:
        context.load_cert_chain(*certificate, password=_no_password)
    except OSError as error:
        names = " and ".join(str(path) for path in certificate if path is not None)
        raise TlsUnusable(f"{names}: no certificate with its key: {error}") from error


def _no_password() -> str:
    """Else OpenSSL would ask for one at a terminal where nobody sits."""
    return ""


def _stamps(certificate: Certificate) -> list[tuple[int, int] | None]:
    return [None if path is None else _stamp(path) for path in certificate]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
