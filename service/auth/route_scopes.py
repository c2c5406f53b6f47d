"""The table of the scope that each route needs."""

import re
from typing import NamedTuple

from service.auth.keys import Scope


class Row(NamedTuple):
    """The scopes for reading (GET, HEAD, OPTIONS) and for changing a path; None: no key is needed.

    In a path ``*`` matches one segment; ``/**`` at the end matches the path itself and everything below.
    """

    path: str
    reading: Scope | None
    changing: Scope | None


# An exact path comes before patterns; of the patterns the first that matches. Paths without a row need "operate".
ACCESS = (
    Row("/health/live", None, "operate"),
    Row("/health/ready", None, "operate"),
    Row("/locate", "locate", "locate"),
    Row("/locate/batch", "locate", "locate"),
    Row("/locate/**", "locate", "locate"),
    Row("/measure", "locate", "locate"),
    Row("/cells/*/export", "operate", "operate"),  # these four show positions of people
    Row("/cells/*/fingerprints/**", "operate", "operate"),
    Row("/cells/*/errors", "operate", "operate"),
    Row("/cells/*/live", "operate", "operate"),
    Row("/cells/**", "read", "operate"),
    Row("/versions/**", "operate", "operate"),
    Row("/models/**", "read", "operate"),
    Row("/keys", "operate", "operate"),
    Row("/metrics", "read", "operate"),
    Row("/latency", "read", "operate"),
    Row("/openapi.json", "read", "operate"),
    Row("/", None, "operate"),
    # A browser sends no key when it loads a page. These pages ask for a key and send it with their own requests.
    Row("/docs/**", None, "operate"),
    Row("/console/outlines/*", "read", "operate"),
    Row("/console/**", None, "operate"),
    Row("/**", "operate", "operate"),
)

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def _pattern(path: str) -> re.Pattern[str]:
    expression = re.escape(path.removesuffix("/**")).replace(r"\*", "[^/]+")
    return re.compile(expression + (r"(/.*)?" if path.endswith("/**") else ""), re.DOTALL)


_EXACT = {row.path: row for row in ACCESS if "*" not in row.path}
_PATTERNS = [(_pattern(row.path), row) for row in ACCESS if "*" in row.path]


def scope_needed(method: str, path: str) -> Scope | None:
    """Returns the scope that a request needs; None: no key is needed."""
    # The last row is also that of what is no path: `OPTIONS *`.
    row = _EXACT.get(path) or next((row for pattern, row in _PATTERNS if pattern.fullmatch(path)), ACCESS[-1])
    return row.reading if method in _READING else row.changing
