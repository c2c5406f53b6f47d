"""Logs on standard error: one line an event, as text or JSON. Logs never hold coordinates or CSI."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from service.settings import Settings
from service.telemetry.correlation import correlation_fields

_LONGEST_MESSAGE = 2000  # characters


def log_config(settings: Settings) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig`."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": LineFormatter},
            "json": {"()": JsonFormatter},
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


class LineFormatter(logging.Formatter):
    """Writes one line of text an event, with the fields of the event and of the current request at the end.

    The lines of a traceback are indented. Names from outside reach the log: control characters in them are escaped, so
    that none can begin a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        message = _escape_controls(_cut(record.getMessage()) + fields)
        lines = [f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"]
        if record.exc_info:
            lines += [f"    {_escape_controls(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line, with the fields of the event and of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Returns what the event carries as `extra={"fields": ...}`, and the correlation fields."""
    return {**getattr(record, "fields", {}), **correlation_fields()}


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def _escape_controls(text: str) -> str:
    """Escapes what does not print: line ends of any kind, terminal controls, marks that reverse text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
