"""Logs on standard error: one line an event, as text or JSON. Logs never hold coordinates or CSI."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from service.errors import shorten_name
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
        "filters": {"path": {"()": PathFilter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": settings.log_format}},
        "loggers": {
            "fingerpost": {"handlers": ["stderr"], "level": level, "propagate": False},
            "uvicorn": {
                "handlers": ["stderr"],
                "level": "WARNING" if level == "INFO" else level,
                "propagate": False,
            },
            "opentelemetry": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"level": "INFO", "filters": ["path"]},
        },
    }


class LineFormatter(logging.Formatter):
    """Writes one line of text an event. The lines of a traceback are indented.

    Names from outside reach the log: control characters in them are escaped, so that none can begin a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = _escape_controls(_cut(record.getMessage()))
        lines = [f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"]
        if record.exc_info:
            lines += [f"    {_escape_controls(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line, with the correlation fields of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **correlation_fields(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class PathFilter(logging.Filter):
    """Removes the query from uvicorn's access log: a query may hold coordinates."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            client, method, target, *rest = record.args
            record.args = (client, method, shorten_name(str(target).partition("?")[0]), *rest)
        return True


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def _escape_controls(text: str) -> str:
    """Escapes what does not print: line ends of any kind, terminal controls, marks that reverse text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
