"""Asks a store about many cells, so that a cell that cannot be read does not hide the others."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from reference_db.errors import ReferenceDatabaseError, StoreUnavailable
from reference_db.stores.store import Store

T = TypeVar("T")


def ask_cells(
    store: Store, ask: Callable[[str], T], cell_ids: Iterable[str]
) -> tuple[dict[str, T], dict[str, ReferenceDatabaseError]]:
    """Calls `ask` for each cell; returns the answers and the errors by cell. Blocking.

    Does not ask about the other cells of a shard that is unavailable: with many cells, waiting for each would take
    minutes. Raises `StoreUnavailable` if there are errors, all of this kind, and no answer.
    """
    answers: dict[str, T] = {}
    faults: dict[str, ReferenceDatabaseError] = {}
    unavailable: dict[str, StoreUnavailable] = {}  # by shard
    for cell_id in cell_ids:
        shard = store.shard(cell_id)
        if shard in unavailable:
            faults[cell_id] = unavailable[shard]
            continue
        try:
            answers[cell_id] = ask(cell_id)
        except StoreUnavailable as error:
            faults[cell_id] = unavailable[shard] = error
        except ReferenceDatabaseError as error:
            faults[cell_id] = error
    if faults and not answers and all(isinstance(error, StoreUnavailable) for error in faults.values()):
        raise next(iter(unavailable.values()))
    return answers, faults
