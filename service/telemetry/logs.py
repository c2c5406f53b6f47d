"""Logs on standard error: one line an event, as text or JSON. Logs never hold coordinates or CSI."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.settings import Settings
from service.telemetry.correlation import correlation_fields

_LONGEST_MESSAGE = 2000  # characters


def log_config(settings: Settings, worker: int | None = None) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig`. Each line of a worker has its number."""
    level = settings.log_level.upper()
    always = {} if worker is None else {"worker": worker}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": LineFormatter, "always": always},
            "json": {"()": JsonFormatter, "always": always},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": settings.log_format}},
        "loggers": {
            "fingerpost": {"handlers": ["stderr"], "level": level, "propagate": False},
            "uvicorn": {
                "handlers": ["stderr"],
                "level": "WARNING" if level == "INFO" else level,
                "propagate": False,
            },
            "opentelemetry": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "fingerpost.access": {"level": "INFO"},  # the setting access_log alone decides
        },
    }


class _FieldFormatter(logging.Formatter):
    """Knows the fields of an event. `always`: fields of each event of this process."""

    def __init__(self, always: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._always = dict(always or {})

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Returns what the event carries as `extra={"fields": ...}`, and the correlation fields."""
        return {**self._always, **getattr(record, "fields", {}), **correlation_fields()}


class LineFormatter(_FieldFormatter):
    """Writes one line of text an event, with the fields of the event and of the current request at the end.

    The lines of a traceback are indented. Names from outside reach the log: control characters in them are escaped, so
    that none can begin a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in self._fields(record).items())
        message = _escape_controls(_cut(record.getMessage()) + fields)
        lines = [f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"]
        if record.exc_info:
            lines += [f"    {_escape_controls(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class JsonFormatter(_FieldFormatter):
    """Writes one JSON object a line, with the fields of the event and of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **self._fields(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def _escape_controls(text: str) -> str:
    """Escapes what does not print: line ends of any kind, terminal controls, marks that reverse text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
