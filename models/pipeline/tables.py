"""Markdown tables and the phrases in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def describe_overrides(overrides: Mapping[str, Any] | None) -> str:
    """``{"optimiser.steps": 5}`` as `` `optimiser.steps: 5` ``."""
    return ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in (overrides or {}).items())
