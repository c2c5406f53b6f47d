"""URLs of services, and how they are shown: without a password."""

import re

import httpx

from fingerpost.errors import NoAnswer

_CREDENTIALS = re.compile(r"//.*@")
_LAST_PORT = 65535


def hide_credentials(url: httpx.URL | str) -> str:
    """The URL as people may see it."""
    return _CREDENTIALS.sub("//", str(url))


def parse_address(url: str) -> httpx.URL:
    """Raises `NoAnswer` for what can be the address of no service."""
    try:
        address = httpx.URL(url)
        address.host.encode("idna")  # as the resolver does, for labels that are too long
    except (httpx.InvalidURL, UnicodeError) as error:
        reason = "it is no URL" if "@" in url else str(error)  # which may quote a part of the password
        raise NoAnswer(f"no answer from {hide_credentials(url)!r}: {reason}") from error
    if address.port is not None and address.port > _LAST_PORT:
        raise NoAnswer(f"no answer from {hide_credentials(url)!r}: the port must be {_LAST_PORT} at most")
    return address
