"""One worker: the ordinary service as a child process, on a Unix socket."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.workers.child import Child

_log = logging.getLogger("fingerpost.workers")


class Worker:
    """A worker that can be started again and again. `number` counts from 1."""

    def __init__(
        self, number: int, socket: Path, environment: Mapping[str, str], note_start: Callable[[], None]
    ) -> None:
        self.number = number
        self.socket = socket
        self.changing = asyncio.Lock()  # held by the task that stops or starts it
        self._environment = environment
        self._note_start = note_start
        self._child: Child | None = None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    async def start(self) -> str | None:
        """Starts the process and waits until it serves. Returns the line that it prints then, or None if it ended or
        could not be started.
        """
        serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(line: str) -> None:
            if not serving.done():
                serving.set_result(line)

        try:
            self._child = await Child.start(self._command(), self._environment, take)
        except OSError as error:  # too little memory, too many processes
            _log.error("worker %d cannot be started: %s", self.number, error)
            return None
        self._note_start()
        ended = asyncio.create_task(self._child.ended())
        either: list[asyncio.Future[Any]] = [serving, ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        return serving.result() if serving.done() else None

    async def ended(self) -> int:
        """Waits for the end of the process, if there is one. Returns its exit status; after a signal its number,
        negative.
        """
        return 1 if self._child is None else await self._child.ended()

    async def stop(self, number: signal.Signals, patience_s: float) -> int:
        """Stops the process, if it was started, and returns its exit status. Kills it after the patience."""
        return 0 if self._child is None else await self._child.stop(number, patience_s)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "fingerpost", "serve", "--worker", str(self.number), str(self.socket)]
