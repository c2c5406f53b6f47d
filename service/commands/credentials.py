"""The API key and the client certificate, from environment variables.

They are no options: all users of a machine can see the options of a running program.
"""

import os
import ssl
from typing import NamedTuple

from service.commands.options import fail


class Credentials(NamedTuple):
    """An API key, and how to check the service's certificate: True, or a context with a client certificate."""

    key: str | None
    verify: ssl.SSLContext | bool


def read_credentials() -> Credentials:
    """Reads FINGERPOST_KEY, FINGERPOST_CERTIFICATE_FILE and FINGERPOST_CERTIFICATE_KEY_FILE.

    SSL_CERT_FILE names a CA, as for other programs. Exits with a message if a file cannot be read.
    """
    key = os.environ.get("FINGERPOST_KEY") or None
    certificate = os.environ.get("FINGERPOST_CERTIFICATE_FILE")
    if not certificate:
        return Credentials(key, True)
    import httpx

    try:
        context = httpx.create_ssl_context()
        context.load_cert_chain(certificate, os.environ.get("FINGERPOST_CERTIFICATE_KEY_FILE"))
    except OSError as error:
        fail(f"FINGERPOST_CERTIFICATE_FILE: {error}")
    return Credentials(key, context)
