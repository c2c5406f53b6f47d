"""Refuses documents that give a name twice. Readers would take the last value and drop the others silently."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def refuse_repeated_names(members: Sequence[tuple[str, T]]) -> dict[str, T]:
    """The members as a dict, also as the `object_pairs_hook` of `json`. Raises `ValueError` with the repeated name."""
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        repeated = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{repeated[:100]!r} is there more than once")
    return found
