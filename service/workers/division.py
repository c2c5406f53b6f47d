"""What each worker gets of the settings, which speak of the whole machine."""

import json
import os
from collections.abc import Mapping

from service.settings import Settings

_DRAIN_S = 1.0  # the balancer is told at once that a worker drains, and need not notice it
_MOST_THREADS = 4  # of one model run, as without workers
_DIVIDED = ("cell_memory_bytes", "frame_cache_bytes", "bodies_limit_bytes", "answers_limit_bytes")
_BESIDES = 64  # connections of health checks and scrapes


def divide(settings: Settings) -> Settings:
    """The settings of one of `settings.workers` workers.

    Memory is divided evenly. A worker still takes one body of the largest size. The threads of a model run are
    divided only where they have their default: a setting names them for each run. Limits for each API key stay whole:
    a key of one base station asks for one cell, which one worker serves.
    """
    workers = settings.workers
    shares: dict[str, object] = {name: max(1, getattr(settings, name) // workers) for name in _DIVIDED}
    if "inference_threads" not in settings.model_fields_set:
        cores = (os.cpu_count() or 1) // workers
        shares["inference_threads"] = min(_MOST_THREADS, max(1, cores - 1))
    shares["request_threads"] = max(1, settings.request_threads // workers)
    shares["cell_series"] = -(-settings.cell_series // workers)
    # The balancer limits clients. It keeps idle connections to a worker beside those in use.
    shares["connection_limit"] = 2 * settings.connection_limit + _BESIDES
    shares["drain_s"] = min(settings.drain_s, _DRAIN_S)
    return settings.model_copy(update=shares)


def worker_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that reads these settings, whatever the `environment` and options said before."""
    prefix = Settings.model_config["env_prefix"]
    values = settings.model_dump(mode="json")
    ours = {f"{prefix}{name}".upper() for name in values}
    kept = {name: value for name, value in environment.items() if name.upper() not in ours}
    return kept | {f"{prefix}{name.upper()}": _as_text(value) for name, value in values.items()}


def _as_text(value: object) -> str:
    """The value of an environment variable."""
    if value is None:
        return Settings.model_config["env_parse_none_str"] or ""
    return value if isinstance(value, str) else json.dumps(value)
