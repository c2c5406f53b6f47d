"""A child process that ends with its parent, however the parent ends, and hears no Ctrl-C of the terminal."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LONGEST_LINE = 2**20  # bytes


class Child:
    """A running child. `tell` gets each line that it writes, without the line end."""

    def __init__(self, process: asyncio.subprocess.Process, tell: Callable[[str], None]) -> None:
        self._process = process
        self._reading = asyncio.create_task(self._read(tell))

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        tell: Callable[[str], None],
        *,
        with_errors: bool = False,
        descriptors: Sequence[int] = (),
    ) -> "Child":
        """Starts the command. Its standard error is this process's own, or goes to `tell` too (`with_errors`).

        Must be called by the main thread: Linux ends the child when the thread ends that has started it.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if with_errors else None,
            start_new_session=True,
            pass_fds=descriptors,
            preexec_fn=_die_with_parent(),
            limit=_LONGEST_LINE,
        )
        return cls(process, tell)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def ended(self) -> int:
        """Waits for its end and its last line. Returns its exit status; after a signal its number, negative."""
        status = await self._process.wait()
        await asyncio.wait([self._reading])
        return status

    async def stop(self, number: signal.Signals, patience_s: float) -> int:
        """Sends a signal. Kills the child where it has not ended after the patience. Returns its exit status."""
        self.send(number)
        try:
            return await asyncio.wait_for(asyncio.shield(self.ended()), patience_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.ended()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless the child has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _read(self, tell: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            tell(line.decode(errors="replace").rstrip("\n"))


def _die_with_parent() -> Callable[[], None] | None:
    """What a child calls before it becomes the command. None where the system cannot end a child with its parent."""
    if sys.platform != "linux":
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask_for_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return ask_for_signal
