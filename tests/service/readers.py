"""Clients that send requests without a pause and keep every answer."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from tests.redis_servers import GUARD_S, wait_until

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """`body` is the number of the request's body; `started` is a time of `time.monotonic`.

    The lists have an element for each user. They are empty unless `status` is 200.
    """

    body: int
    status: int
    started: float
    seconds: float
    places: list[tuple[float, float]]
    versions: list[str]
    artifacts: list[str]


class Readers:
    """Threads that ask one service; `answers` grows while they do."""

    def __init__(self, port: int, requests: Sequence[tuple[str, bytes]], threads: int) -> None:
        self._port, self._requests = port, requests
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(first,)) for first in range(threads)]
        self.answers: list[Answer] = []
        self.broken: list[Exception] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> list[Answer]:
        """Returns the answers to requests sent from now on, at least `more` of them.

        Requests on their way do not count, however late their answers arrive.
        """
        first, now = len(self.answers), time.monotonic()

        def find_new() -> list[Answer]:
            return [answer for answer in self.answers[first:] if answer.started >= now]

        wait_until(lambda: len(find_new()) >= more or bool(self.broken), "users are not answered")
        assert not self.broken, self.broken
        return find_new()

    def wait_for_version(self, version: str) -> None:
        """Returns once a user is located in a version."""
        seen = len(self.answers)

        def is_served() -> bool:
            nonlocal seen
            new = self.answers[seen:]
            seen += len(new)
            return bool(self.broken) or any(version in one.versions for one in new)

        wait_until(is_served, f"no user is located in version {version}")
        assert not self.broken, self.broken

    def _read(self, first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=GUARD_S)
        try:
            for turn in itertools.count(first, len(self._threads)):
                if self._stop.is_set():
                    return
                self.answers.append(self._ask(connection, turn % len(self._requests)))
        except Exception as error:  # the test raises it
            self.broken.append(error)
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, body: int) -> Answer:
        path, content = self._requests[body]
        started = time.monotonic()
        connection.request("POST", path, content, JSON)
        response = connection.getresponse()
        data = response.read()
        seconds = time.monotonic() - started
        if response.status != 200:
            return Answer(body, response.status, started, seconds, [], [], [])
        whole = msgspec.json.decode(data)
        found = [one.get("location") for one in whole["results"]] if "results" in whole else [whole]
        if None in found:
            return Answer(body, 207, started, seconds, [], [], [])  # a user of the batch was not located
        points = [one["localLocationEstimate"]["point"] for one in found]
        versions = [one["provenance"]["cellVersion"] for one in found]
        artifacts = [one["provenance"]["artifact"]["digest"] for one in found]
        return Answer(body, 200, started, seconds, [(point["x"], point["y"]) for point in points], versions, artifacts)


@contextmanager
def reading(port: int, requests: Sequence[tuple[str, bytes]], threads: int = 3) -> Iterator[Readers]:
    """Readers at work; on leaving they have stopped, and none of them broke off."""
    readers = Readers(port, requests, threads)
    readers.start()
    try:
        yield readers
    finally:
        readers.stop()
    assert not readers.broken, readers.broken
