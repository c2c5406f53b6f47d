"""Which scope a key needs for which route: this table, and nothing else."""

import re
from typing import NamedTuple

from service.auth.keys import Scope


class Row(NamedTuple):
    """Who may read (GET, HEAD, OPTIONS) and who may change; None: anybody.

    In a path ``*`` is any one segment, ``/**`` at its end everything below, and the path itself.
    """

    path: str
    reading: Scope | None
    changing: Scope | None


# The first row that fits counts. Whatever is forgotten here, and whatever is not there at all, is operators'.
ACCESS = (
    Row("/health/live", None, "operate"),
    Row("/health/ready", None, "operate"),
    Row("/locate", "locate", "locate"),
    Row("/locate/batch", "locate", "locate"),
    Row("/locate/**", "locate", "locate"),
    Row("/cells/*/export", "operate", "operate"),  # these tell where somebody is, or may have been
    Row("/cells/*/fingerprints/**", "operate", "operate"),
    Row("/cells/*/errors", "operate", "operate"),
    Row("/cells/*/live", "operate", "operate"),
    Row("/cells/**", "read", "operate"),
    Row("/models/**", "read", "operate"),
    Row("/metrics", "read", "operate"),
    Row("/latency", "read", "operate"),
    Row("/openapi.json", "read", "operate"),
    Row("/", None, "operate"),
    # A browser sends no key when it loads a page. These pages ask for a key and send it with their own requests.
    Row("/docs/**", None, "operate"),
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
    """The scope that a request needs; None: no key at all."""
    row = _EXACT.get(path) or next(row for pattern, row in _PATTERNS if pattern.fullmatch(path))
    return row.reading if method in _READING else row.changing
