"""Which stage the changes of cells have reached on this replica."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from fingerpost.wire_cells import CellProgress, Stage


class Progress:
    """Told by the threads that make changes; asked by the event loop's thread."""

    def __init__(self) -> None:
        self._stages: dict[str, CellProgress] = {}

    @contextmanager
    def follow(self, cell_id: str, stage: Stage) -> Iterator[None]:
        """Enters the first stage of a change, and leaves the last at the end."""
        self.enter(cell_id, stage)
        try:
            yield
        finally:
            self.leave(cell_id)

    def enter(self, cell_id: str, stage: Stage) -> None:
        self._stages[cell_id] = CellProgress(cell_id=cell_id, stage=stage, since=datetime.now(UTC))

    def leave(self, cell_id: str) -> None:
        self._stages.pop(cell_id, None)

    def of(self, cell_id: str) -> CellProgress:
        return self._stages.get(cell_id) or CellProgress(cell_id=cell_id)
