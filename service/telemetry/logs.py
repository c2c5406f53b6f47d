"""Logs on standard error: one line an event, as text or JSON. Logs never hold coordinates or CSI."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from service.settings import Settings
from service.telemetry.correlation import correlation_fields


def log_config(settings: Settings) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig`."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": LineFormatter, "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
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
    """Writes text for people, with the fields of the event and of the current request as ``name=value`` at the end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        fields = _fields(record)
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in fields.items())])


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line, with the fields of the event and of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Returns what the event carries as `extra={"fields": ...}`, and the correlation fields."""
    return {**getattr(record, "fields", {}), **correlation_fields()}
