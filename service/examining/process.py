"""One run of the examiner, as the service sees it."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread

from service.child_environment import environment_of_this_package
from service.errors import ExaminerEnded, ServiceError
from service.examining.channel import ArrayFile, Channel
from service.examining.messages import Answer, Failure, Lack, Request
from service.settings import Settings

_log = logging.getLogger("fingerpost.examiner")

_IDLE_S = 300.0  # after which the process ends, and its memory is free
_ENDING_S = 5.0  # for it to end by itself
# glibc's own threshold grows, and then freed arrays stay in heaps, which fragment. One thread: as users are located.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

Received = tuple[Answer | Failure | Lack, ArrayFile | None]


class ExaminerProcess:
    """Takes requests until it ends: after some idle minutes, when it is killed, or when it fails. For any thread.

    A thread of its own starts the process, because Linux kills the process when this thread ends, and hands out its
    replies. `note_failure` is called if the process ends while it is needed. Raises `ExaminerEnded` if it cannot be
    started.
    """

    def __init__(self, settings: Settings, note_failure: Callable[[], None]) -> None:
        self._settings = settings
        self._note_failure = note_failure
        self._lock = Lock()
        self._waiting: dict[int, Future[Received]] = {}
        self._closing: ServiceError | None = None  # why it takes no more requests
        started: Future[tuple[subprocess.Popen[bytes], Channel]] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="examiner", daemon=True)
        self._thread.start()
        try:
            self._process, self._channel = started.result()
        except OSError as error:  # too little memory, too many processes or files
            note_failure()
            raise ExaminerEnded("the process that examines versions of cells cannot be started") from error

    @property
    def is_closing(self) -> bool:
        """Whether it takes no more requests."""
        with self._lock:
            return self._closing is not None

    def submit(self, request: Request, segments: ArrayFile | None) -> "Future[Received] | None":
        """Sends a request. The future raises `ExaminerEnded`, or the reason that was given to `kill`.

        None if the process takes no more requests.
        """
        future: Future[Received] = Future()
        with self._lock:
            if self._closing is not None:
                return None
            self._waiting[request.number] = future
        with suppress(OSError):  # it has ended, and the thread tells the future
            self._channel.send(request, segments)
        return future

    def kill(self, reason: ServiceError) -> None:
        """Ends the process at once. Requests without a reply fail with `reason`."""
        with self._lock:
            self._closing = self._closing or reason
        self._process.kill()
        self._thread.join()

    def _run(self, started: "Future[tuple[subprocess.Popen[bytes], Channel]]") -> None:
        try:
            process, channel = _start(self._settings)
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result((process, channel))
        try:
            with process:
                try:
                    self._hand_out_replies(channel)
                finally:
                    channel.close()  # the process ends then, if it has not ended already
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_ENDING_S)
                    process.kill()
        finally:
            self._fail_waiting(process.returncode)

    def _hand_out_replies(self, channel: Channel) -> None:
        while self._is_needed(channel):
            try:
                message, arrays = channel.receive()
            except (EOFError, OSError):
                return
            with self._lock:
                future = self._waiting.pop(message.number)
            future.set_result((message, arrays))

    def _is_needed(self, channel: Channel) -> bool:
        """Waits for a reply. False once there has been nothing to reply to for a long time."""
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        while not poll.poll(1000 * _IDLE_S):
            with self._lock:
                if not self._waiting:
                    self._closing = ExaminerEnded("the process that examines versions of cells was idle")
                    return False
        return True

    def _fail_waiting(self, status: int) -> None:
        with self._lock:
            expected, waiting = self._closing, list(self._waiting.values())
            reason = self._closing = expected or _describe_end(status)
        if expected is None:
            _log.error("%s; %d requests failed", reason, len(waiting))
            self._note_failure()
        for future in waiting:
            future.set_exception(reason.__copy__())


def _start(settings: Settings) -> tuple[subprocess.Popen[bytes], Channel]:
    """Not by a fork: this process has threads. Not in this process's group, whose signals stop the service only."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.examining.child", str(theirs.fileno()), str(os.getpid())],
                env=environment_of_this_package(os.environ) | _ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # that of this process may be a pipe, which would stay open
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    channel = Channel(ours)
    with suppress(OSError):  # it has ended already
        channel.send(settings)
    return process, channel


def _describe_end(status: int) -> ExaminerEnded:
    if status == -signal.SIGKILL:
        return ExaminerEnded("the process that examines versions of cells was killed; perhaps memory ran out")
    return ExaminerEnded(f"the process that examines versions of cells ended with status {status}")
