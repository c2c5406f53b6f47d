"""Users located without a pause while operators change their cell: does every answer belong to one version alone?

    python -m tests.service.updates_under_load --publishes 500    # in a directory, and in a Redis of its own

Every version's answers are found out alone, in this process, and what the service said is held against them.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from models.artifact import load_artifact
from reference_db import open_store
from service.settings import Settings
from tests.redis_servers import RedisServer
from tests.service import changing_cell
from tests.service.readers import Answer, reading
from tests.service.replicas import running
from tests.service.tiny_artifact import write_tiny_artifact

SAME_M = 0.002  # what rounding may make of an answer
_LOOKED_AT = 5  # every so many versions the writer waits until users are located in one


class Outcome(NamedTuple):
    """`seen`: in how many versions somebody was located; times in seconds, of requests between the updates' first and
    last and of such before them."""

    publishes: int
    requests: int
    locations: int
    seen: int
    seconds: float
    p99: float
    p99_before: float

    def __str__(self) -> str:
        return (
            f"{self.publishes} versions in {self.seconds:.0f} s; {self.requests:,} requests ({self.locations:,} "
            f"locations, in {self.seen} versions) on two replicas: each of one version, none failed; "
            f"p99 {1e3 * self.p99:.0f} ms, before {1e3 * self.p99_before:.0f} ms"
        )


def change_under_load(database: str, artifact: Path, publishes: int, folder: Path, most_s: float = np.inf) -> Outcome:
    """Makes so many versions of a cell, or fewer in `most_s` seconds, while users ask the replica and another one.

    Raises `AssertionError` where anything is amiss.
    """
    asked = [("/locate", body) for body in changing_cell.request_bodies()]
    asked += [("/locate/batch", changing_cell.batch_body())]
    with ExitStack() as stack:
        replicas = [stack.enter_context(running(database, artifact, folder / f"replica-{n}.log")) for n in range(2)]
        client = replicas[0].client
        versions = [_changed(client, 1)]
        readers = [stack.enter_context(reading(replica.port, asked, threads=1)) for replica in replicas]
        for one in readers:
            one.wait_for_version(versions[0])
        before = [answer for one in readers for answer in one.wait_for(50)]
        started, first = time.monotonic(), [len(one.answers) for one in readers]
        for number in range(2, publishes + 1):
            versions.append(_changed(client, number))
            over = number == publishes or time.monotonic() > started + most_s
            if number % _LOOKED_AT == 0 or over:
                for one in readers:
                    one.wait_for_version(versions[-1])
            if over:
                break
        seconds = time.monotonic() - started
        during = [answer for one, since in zip(readers, first, strict=True) for answer in one.answers[since:]]
    _check_nothing_is_lost(database, versions)
    answers = [answer for one in readers for answer in one.answers]
    seen = check_answers(answers, database, artifact, versions)
    p99s = (float(np.quantile([answer.seconds for answer in some], 0.99)) for some in (during, before))
    return Outcome(len(versions), len(answers), sum(len(one.places) for one in answers), seen, seconds, *p99s)


def check_answers(answers: Sequence[Answer], database: str, artifact: Path, versions: Sequence[str]) -> int:
    """How many versions served; `AssertionError` unless each answer is what one version of the cell answers alone."""
    store = open_store(database)
    expected = changing_cell.answers_of(store, load_artifact(artifact), range(1, len(versions) + 1))
    store.close()
    assert list(expected) == list(versions)
    changing_cell.check_unlike(expected)
    failed = [(answer.body, answer.status) for answer in answers if answer.status != 200]
    assert not failed, failed
    for answer in answers:
        (version,) = set(answer.versions)  # a batch of users of one cell uses one
        users = range(changing_cell.USERS) if len(answer.places) > 1 else [answer.body]
        for user, place in zip(users, answer.places, strict=True):
            away = math.dist(place, expected[version][user])
            assert away < SAME_M, f"version {version}, user {user}: {place}, which is off by {away:.3f} m"
    return len({version for answer in answers for version in answer.versions})


def _changed(client: httpx.Client, number: int) -> str:
    answer = changing_cell.change_to(number).send(client)
    assert answer.status_code in (200, 201), answer.text
    version: str = answer.json()["version"]
    assert version.startswith(f"{number}-")
    return version


def _check_nothing_is_lost(database: str, versions: Sequence[str]) -> None:
    store = open_store(database)
    cell_id = changing_cell.CELL.cell_id
    kept = [store.manifest(cell_id, number).version for number in store.numbers(cell_id)]
    store.close()
    assert kept == list(versions)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Change a cell under load.")
    parser.add_argument("--publishes", type=int, default=250, help="in each store")
    parser.add_argument("--most-s", type=float, default=np.inf, help="in each store, however few that makes")
    parser.add_argument("--network", choices=("quick", "shipped"), default="quick", help="quick: of the tests' own")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifact = Settings().artifact_directory
        if chosen.network == "quick":
            artifact = folder / "tiny"
            artifact.mkdir()
            write_tiny_artifact(artifact, tile_pitch=2.0)
        for name, database in _places(folder, stack):
            outcome = change_under_load(database, artifact, chosen.publishes, folder, chosen.most_s)
            print(f"{name}: {outcome}", flush=True)


def _places(folder: Path, stack: ExitStack) -> Iterator[tuple[str, str]]:
    yield "directory", str(folder / "database")
    server = RedisServer(folder / "redis")
    stack.callback(server.kill)
    yield "Redis", server.url


if __name__ == "__main__":
    sys.exit(main())
