"""Who asks, as the environment says; options would be seen by all of a machine's users."""

import os
import ssl
from typing import NamedTuple

from service.commands.options import fail


class Identity(NamedTuple):
    """An API key, and how the service must prove itself and this client to it."""

    key: str | None
    verify: ssl.SSLContext | bool


def identity_of_environment() -> Identity:
    """Out of FINGERPOST_KEY, and of FINGERPOST_CERTIFICATE_FILE and FINGERPOST_CERTIFICATE_KEY_FILE for mutual TLS.

    As for other programs, SSL_CERT_FILE names a CA that is not the system's. Exits where a file is not there.
    """
    key = os.environ.get("FINGERPOST_KEY") or None
    certificate = os.environ.get("FINGERPOST_CERTIFICATE_FILE")
    if not certificate:
        return Identity(key, True)
    import httpx

    try:
        context = httpx.create_ssl_context()
        context.load_cert_chain(certificate, os.environ.get("FINGERPOST_CERTIFICATE_KEY_FILE"))
    except OSError as error:
        fail(f"FINGERPOST_CERTIFICATE_FILE: {error}")
    return Identity(key, context)
