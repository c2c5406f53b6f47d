"""The service on a network that takes no time, with settings of its own and keys."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.auth.keys import Scope, edit_keys, make_key
from service.settings import Settings
from tests.service.running import tiny_service


def make_tiny_settings(directory: Path, **knobs: Any) -> Settings:
    """Those of `tiny_service`, with a port that the system chooses, quick to calibrate."""
    few = {"port": 0, "inference_threads": 1, "calibration_samples": 20, "calibration_sigmas_m": (1.0,)}
    return Settings(**tiny_service(directory).model_dump() | few | knobs)


def added_key(file: Path, scopes: Sequence[Scope], rate: float | None = None) -> str:
    """A key that from now on lies in the file."""
    key, record = make_key("test", scopes, rate, datetime.now(UTC))
    with edit_keys(file) as keys:
        keys.append(record)
    return key


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
