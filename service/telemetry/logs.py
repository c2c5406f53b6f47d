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
            "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
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


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line, with the correlation fields of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
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
            record.args = (client, method, str(target).partition("?")[0], *rest)
        return True
