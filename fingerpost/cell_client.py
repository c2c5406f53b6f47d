"""Clients of one cell, for operators."""

import re

import httpx

from fingerpost import cell_calls, change_calls
from fingerpost.running import AsyncRunner, BlockingRunner, async_iterator, asynchronous, blocking, blocking_iterator
from fingerpost.wire import CELL_ID_PATTERN


class CellClient(BlockingRunner):
    """The operators' requests about the cell `cell_id`; made by `Client.cell`.

    All changes take the fields of `Change`: `author`, `note`, `if_match`, `idempotency_key` and `force`.
    """

    def __init__(self, http: httpx.Client, tries: int, cell_id: str) -> None:
        super().__init__(http, tries)
        self.cell_id = _check(cell_id)

    show = blocking(cell_calls.show)
    create = blocking(change_calls.create)
    replace = blocking(change_calls.replace)
    preview_replacement = blocking(change_calls.preview_replacement)
    preview_append = blocking(change_calls.preview_append)
    append = blocking(change_calls.append)
    correct = blocking(change_calls.correct)
    delete_fingerprints = blocking(change_calls.delete_fingerprints)
    preview_deletion = blocking(change_calls.preview_deletion)
    forget_fingerprints = blocking(change_calls.forget_fingerprints)
    preview_forgetting = blocking(change_calls.preview_forgetting)
    set_retention = blocking(change_calls.set_retention)
    preview_retention = blocking(change_calls.preview_retention)
    set_model = blocking(change_calls.set_model)
    roll_back = blocking(change_calls.roll_back)
    delete = blocking(change_calls.delete)
    list_fingerprints = blocking(cell_calls.list_fingerprints)
    iterate_fingerprints = blocking_iterator(cell_calls.iterate_fingerprints)
    list_versions = blocking(cell_calls.list_versions)
    iterate_versions = blocking_iterator(cell_calls.iterate_versions)
    diff = blocking(cell_calls.diff)
    export = blocking(cell_calls.export)
    measure_errors = blocking(cell_calls.measure_errors)
    score_truths = blocking(change_calls.score_truths)
    show_truths = blocking(cell_calls.show_truths)
    show_progress = blocking(cell_calls.show_progress)
    watch = blocking(cell_calls.watch)


class AsyncCellClient(AsyncRunner):
    """The same as `CellClient` for asyncio."""

    def __init__(self, http: httpx.AsyncClient, tries: int, cell_id: str) -> None:
        super().__init__(http, tries)
        self.cell_id = _check(cell_id)

    show = asynchronous(cell_calls.show)
    create = asynchronous(change_calls.create)
    replace = asynchronous(change_calls.replace)
    preview_replacement = asynchronous(change_calls.preview_replacement)
    preview_append = asynchronous(change_calls.preview_append)
    append = asynchronous(change_calls.append)
    correct = asynchronous(change_calls.correct)
    delete_fingerprints = asynchronous(change_calls.delete_fingerprints)
    preview_deletion = asynchronous(change_calls.preview_deletion)
    forget_fingerprints = asynchronous(change_calls.forget_fingerprints)
    preview_forgetting = asynchronous(change_calls.preview_forgetting)
    set_retention = asynchronous(change_calls.set_retention)
    preview_retention = asynchronous(change_calls.preview_retention)
    set_model = asynchronous(change_calls.set_model)
    roll_back = asynchronous(change_calls.roll_back)
    delete = asynchronous(change_calls.delete)
    list_fingerprints = asynchronous(cell_calls.list_fingerprints)
    iterate_fingerprints = async_iterator(cell_calls.iterate_fingerprints)
    list_versions = asynchronous(cell_calls.list_versions)
    iterate_versions = async_iterator(cell_calls.iterate_versions)
    diff = asynchronous(cell_calls.diff)
    export = asynchronous(cell_calls.export)
    measure_errors = asynchronous(cell_calls.measure_errors)
    score_truths = asynchronous(change_calls.score_truths)
    show_truths = asynchronous(cell_calls.show_truths)
    show_progress = asynchronous(cell_calls.show_progress)
    watch = asynchronous(cell_calls.watch)


def _check(cell_id: str) -> str:
    """Raises `ValueError` for what would lead to another path."""
    if not re.fullmatch(CELL_ID_PATTERN, cell_id):
        raise ValueError(f"{cell_id[:100]!r} is not the name of a cell")
    return cell_id
