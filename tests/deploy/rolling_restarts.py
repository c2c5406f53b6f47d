"""Restarts both replicas behind HAProxy, one after the other, under load, and checks that no request fails.

    python -m tests.deploy.rolling_restarts --restarts 10    # of each replica, on a directory and on a Redis of its own

Users of two cells, one at each replica, send requests without a pause. An operator changes one of the cells meanwhile.
Every answer is compared with the answer of the cell version that it names.
"""

import argparse
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from service.settings import Settings
from tests.deploy.balanced import REPLICAS, Balanced, balance, haproxy_binary
from tests.redis_servers import GUARD_S, RedisServer
from tests.service import changing_cell
from tests.service.readers import Answer, Readers, reading
from tests.service.updates_under_load import SAME_M, check_answers

CHANGING = changing_cell.CELL.cell_id
_BEFORE = 200  # answers of each cell before the first restart
_CHANGE_EVERY_S = 0.5
_READERS = 2  # of each cell


class Outcome(NamedTuple):
    """`seconds`: duration of all restarts. `p50`, `p99`, `most`: latencies meanwhile, in seconds."""

    restarts: int
    seconds: float
    requests: int
    versions: int
    p50: float
    p99: float
    most: float
    p99_before: float

    def __str__(self) -> str:
        return (
            f"{self.restarts} restarts in {self.seconds:.0f} s; {self.requests:,} requests of users, 0 failed, and "
            f"{self.versions} updates, 0 lost; p50 {1e3 * self.p50:.1f} ms, p99 {1e3 * self.p99:.0f} ms (before: "
            f"{1e3 * self.p99_before:.0f} ms), at most {1e3 * self.most:.0f} ms"
        )


def restart_under_load(haproxy: str, database: str | Path, artifact: Path, rounds: int) -> Outcome:
    """Restarts each replica `rounds` times. Raises `AssertionError` if a request or an update is lost or wrong."""
    # No request is refused for congestion: on a busy machine that would measure the machine.
    chosen = {"queue_limit_s": GUARD_S, "standing_queue_s": GUARD_S, "log_level": "warning"}
    with ExitStack() as stack:
        balanced = stack.enter_context(balance(haproxy, database, artifact_directory=artifact, **chosen))
        versions = [_acknowledged(changing_cell.replacement(1).send(balanced.client))]
        still = _cell_elsewhere(balanced)
        _acknowledged(changing_cell.replacement(1, still).send(balanced.client))
        port = balanced.client.base_url.port
        assert port is not None
        readers = [
            stack.enter_context(
                reading(port, [("/locate", body) for body in changing_cell.request_bodies(cell_id)], _READERS)
            )
            for cell_id in (CHANGING, still)
        ]
        before = [answer for one in readers for answer in one.wait_for(_BEFORE)]
        started, first = time.monotonic(), [len(one.answers) for one in readers]
        with _changing(balanced.client, versions):
            for _ in range(rounds):
                for replica in REPLICAS:
                    balanced.restart(replica)
                    for one in readers:
                        one.wait_for(1)
        seconds = time.monotonic() - started
        during = [answer for one, since in zip(readers, first, strict=True) for answer in one.answers[since:]]
    check_answers(readers[0].answers, str(database), artifact, versions)
    _check_still(readers)
    p50, p99, most = np.quantile([answer.seconds for answer in during], [0.5, 0.99, 1]).tolist()
    p99_before = float(np.quantile([answer.seconds for answer in before], 0.99))
    return Outcome(len(REPLICAS) * rounds, seconds, len(during), len(versions), p50, p99, most, p99_before)


def _cell_elsewhere(balanced: Balanced) -> str:
    """The name of a cell whose users go to the other replica."""

    def replica(cell_id: str) -> str:
        return balanced.client.post("/locate", json={"cellId": cell_id}).headers["Fingerpost-Replica"]

    taken = replica(CHANGING)
    return next(name for name in (f"still-{number}" for number in range(1000)) if replica(name) != taken)


@contextmanager
def _changing(client: httpx.Client, versions: list[str]) -> Iterator[None]:
    """An operator changes the cell meanwhile. Appends each new version to `versions`."""
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not stop.wait(_CHANGE_EVERY_S):
                versions.append(_acknowledged(changing_cell.change_to(len(versions) + 1).send(client)))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


def _acknowledged(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 201), answer.text
    version: str = answer.json()["version"]
    return version


def _check_still(readers: list[Readers]) -> None:
    """The cell that does not change answers like the other cell's first version."""
    first = _places(answer for answer in readers[0].answers if answer.versions[0].startswith("1-"))
    assert len(first) == changing_cell.USERS
    assert {answer.status for answer in readers[1].answers} == {200}
    assert len({answer.versions[0] for answer in readers[1].answers}) == 1
    for answer in readers[1].answers:
        assert math.dist(answer.places[0], first[answer.body]) < SAME_M


def _places(answers: Iterator[Answer]) -> dict[int, tuple[float, float]]:
    return {answer.body: answer.places[0] for answer in answers}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Restart replicas under load.")
    parser.add_argument("--restarts", type=int, default=10, help="of each replica, in each store")
    restarts = parser.parse_args(arguments).restarts
    haproxy = haproxy_binary()
    if haproxy is None:
        sys.exit("rolling restarts: haproxy is not installed")
    artifact = Settings().artifact_directory
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        database = folder / "database"
        database.mkdir()  # a replica without its directory is not ready
        print(f"directory: {restart_under_load(haproxy, database, artifact, restarts)}", flush=True)
        redis = RedisServer(folder / "redis")
        stack.callback(redis.kill)
        print(f"Redis: {restart_under_load(haproxy, redis.url, artifact, restarts)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
