"""Durations as people write them: 30d, 12h, 1h30m, 250ms, or ISO 8601 such as P30D."""

import re
from datetime import timedelta

EXAMPLES = "30d, 12h, 90s or 250ms"

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_LONGEST_S = 36_500 * _SECONDS["d"]
_MONTHS = re.compile("[YM]")  # of no certain length
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|d|w)")
_PARTS = re.compile(rf"(?:{_PART.pattern}\s*)+")


def parse_duration(text: str) -> float:
    """Seconds. A number without a unit is seconds. Raises `ValueError` for any other text, with examples."""
    stripped = text.strip()
    try:
        if _PARTS.fullmatch(stripped):
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(stripped))
        else:
            seconds = _parse_iso_8601(stripped) if stripped.startswith("P") else float(stripped)
    except ValueError:
        raise ValueError(f"must be a duration such as {EXAMPLES}; a number is seconds") from None
    if not abs(seconds) <= _LONGEST_S:
        raise ValueError(f"must be at most {describe_duration(_LONGEST_S)}")
    return seconds


def _parse_iso_8601(text: str) -> float:
    """Raises `ValueError`."""
    if _MONTHS.search(text.partition("T")[0]):
        raise ValueError("years and months are of no certain length")
    from pydantic import TypeAdapter  # a tenth of a second, which most commands need not spend

    return TypeAdapter(timedelta).validate_python(text).total_seconds()


def describe_duration(seconds: float) -> str:
    """As `parse_duration` reads it, in the largest unit that is exact."""
    for unit in ("d", "h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"
