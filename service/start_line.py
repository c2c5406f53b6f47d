"""What `fingerpost serve` prints once it listens: where, the database with its number of cells, and the artifacts."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from fingerpost.wire_provenance import ArtifactReference
from reference_db.errors import ReferenceDatabaseError
from reference_db.stores.store import Store
from service.settings import Settings
from service.telemetry.logs import JsonFormatter

_DIGITS = 12  # of a digest


class ServedParts(NamedTuple):
    """The reference database, and the artifacts in service by family."""

    store: Store
    artifacts: Mapping[str, ArtifactReference]


def describe_start(settings: Settings, url: str, parts: ServedParts) -> str:
    """One line, JSON where logs are JSON. Blocking: counts the cells of the database."""
    cells, trouble = _count_cells(parts.store)
    if settings.log_format == "json":
        artifacts = [{"family": family, **one.model_dump()} for family, one in parts.artifacts.items()]
        fields: dict[str, Any] = {"url": url, "database": settings.database, "cells": cells, "artifacts": artifacts}
        if settings.workers > 1:
            fields["workers"] = settings.workers
        record = {"name": "fingerpost.server", "levelname": "INFO", "msg": f"serving at {url}"}
        return JsonFormatter().format(logging.makeLogRecord(record | {"fields": fields}))
    held = trouble or f"{cells} cell{'s' * (cells != 1)}"
    named = ", ".join(f"{family} {one.version} ({one.digest[:_DIGITS]})" for family, one in parts.artifacts.items())
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    return f"fingerpost: serving at {url} from database {settings.database} ({held}) with {named}{workers}"


def _count_cells(store: Store) -> tuple[int | None, str | None]:
    """The number of cells; None, and why, if the database does not say."""
    try:
        return len(store.cells()), None
    except ReferenceDatabaseError as error:
        return None, str(error)
