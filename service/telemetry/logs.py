"""What the service writes to standard error: a line an event, for people or as JSON. Never coordinates or CSI."""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.settings import Settings
from service.telemetry.correlation import correlation_fields


def log_config(settings: Settings) -> dict[str, Any]:
    """For `logging.config.dictConfig`."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {"()": JsonLines},
        },
        "filters": {"path": {"()": PathAlone}},
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


class JsonLines(logging.Formatter):
    """A JSON object a line, with what the request at work is followed by."""

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
        return msgspec.json.encode(fields).decode()


class PathAlone(logging.Filter):
    """Takes from uvicorn's line about a request what follows the path: anybody may ask for anything there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            client, method, target, *rest = record.args
            record.args = (client, method, str(target).partition("?")[0], *rest)
        return True
