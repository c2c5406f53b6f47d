"""The sockets on which the service listens: TCP for clients, Unix sockets for the workers of one port."""

import socket
from ipaddress import ip_address
from pathlib import Path

from service.settings import Settings


class Unguarded(Exception):
    """The service would listen on a public address without API keys. The text is fit to show to a person."""


def check_guarded(settings: Settings) -> None:
    """Raises `Unguarded` unless API keys are required or the service listens on loopback addresses only."""
    if settings.keys_file is not None:
        return
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM) if settings.host else []
    except OSError:
        found = []
    if not found or not all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found):
        raise Unguarded(
            f"{settings.host!r} is not a loopback address, and a public address needs API keys: make a key with "
            "`fingerpost keys add` and set FINGERPOST_KEYS_FILE"
        )


def bind_port(settings: Settings) -> socket.socket:
    """A socket at the address of the settings that does not listen yet. Raises `OSError` when the port is taken."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((settings.host, settings.port))
    except BaseException:
        listening.close()
        raise
    return listening


def bind_unix(path: Path) -> socket.socket:
    """A socket that only this user can reach, and that does not listen yet; replaces what an earlier process left."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
    except BaseException:
        listening.close()
        raise
    return listening


def describe_url(listening: socket.socket, tls: bool) -> str:
    """The URL of a socket: of a Unix socket ``unix:PATH``."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
