"""A proxy between a store and Redis that loses requests or replies of scripts, or runs code before a script."""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Self


class Fate(Enum):
    """What happens to a script and its reply."""

    PASSED_ON = auto()
    REQUEST_LOST = auto()  # silently: no reply ever comes
    ANSWER_LOST = auto()  # the script has run, but no reply ever comes
    CONNECTION_LOST = auto()  # after the script has run


class ScriptProxy:
    """Forwards all traffic. `meet` sets the fate of the next script, and `first` is called before that script."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._fate: Fate | None = None
        self._first: Callable[[], object] = int
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def meet(self, fate: Fate, first: Callable[[], object] = int) -> None:
        self._fate, self._first = fate, first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store before leaving this context."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                store, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(store,), daemon=True))
                self._threads[-1].start()

    def _serve(self, store: socket.socket) -> None:
        fate = Fate.PASSED_ON
        with suppress(OSError), store, socket.create_connection(("127.0.0.1", self._port)) as redis:
            while True:
                readable, _, _ = select.select([store, redis], [], [])
                if store in readable:
                    data = store.recv(65536)
                    if not data:
                        return
                    if self._fate is not None and b"EVALSHA" in data:
                        fate, self._fate = self._fate, None
                        self._first()
                    if fate is not Fate.REQUEST_LOST:
                        redis.sendall(data)
                if redis in readable:
                    data = redis.recv(65536)
                    if not data or fate is Fate.CONNECTION_LOST:
                        return
                    if fate is Fate.PASSED_ON:
                        store.sendall(data)
