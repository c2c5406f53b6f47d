"""Redis killed and started again, and frozen, under load: does serving go on, and is anything lost?

python -m tests.service.store_outages --outages 20
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from service.settings import Settings
from tests.redis_servers import RedisServer, wait_until
from tests.service import changing_cell
from tests.service.readers import JSON, Readers, reading
from tests.service.replicas import Replica, running

STALE = "fingerpost_reference_db_stale_seconds"
REQUESTS = [("/locate", body) for body in changing_cell.request_bodies()]

_REQUEST_ELSEWHERE = changing_cell.request_bodies("elsewhere")[0]
_STALE_S = 2.0
_ANSWERS = 50  # how many users are waited for before something is believed to go on


class Outage:
    """A replica on a Redis that fails, users who ask it all the while, and an operator who changes their cell."""

    def __init__(self, redis: RedisServer, replica: Replica, readers: Readers, version: str) -> None:
        self._redis, self._replica, self._readers = redis, replica, readers
        self.acknowledged = [version]
        readers.wait_for_version(version)

    def restart(self) -> None:
        """Kills Redis, as a crash does, and starts it again after a while."""
        self._redis.kill()
        self._go_through()
        self._redis.start()
        self._recover()

    def freeze(self) -> None:
        """Redis answers nothing for a while; nobody who is to be located waits for it."""
        self._redis.freeze()
        self._go_through()
        self._redis.thaw()
        self._recover()

    def check(self) -> None:
        """`AssertionError` where a user was not located, or a version that was acknowledged is not there."""
        assert {one.status for one in self._readers.answers} == {200}
        page = self._replica.client.get("/cells/changing/versions", params={"limit": 1000}).json()
        assert [one["version"] for one in page["versions"]] == self.acknowledged[::-1]

    def _go_through(self) -> None:
        number = len(self.acknowledged) + 1
        with ThreadPoolExecutor(1) as operator:
            refused = operator.submit(self._change, number)
            located = self._readers.wait_for(_ANSWERS)  # also while the operator waits
            check_unavailable(refused.result())
        located += self._readers.wait_for(_ANSWERS)
        assert {version for one in located for version in one.versions} == {self.acknowledged[-1]}
        client = self._replica.client
        check_unavailable(client.get("/cells"))
        check_unavailable(client.post("/locate", content=_REQUEST_ELSEWHERE, headers=JSON))
        assert client.get("/health/ready").status_code == 200
        wait_until(lambda: self._replica.metric(STALE) > _STALE_S, "nobody says that the database is away")

    def _recover(self) -> None:
        """What was refused goes through, once, however often it is asked for."""
        number = len(self.acknowledged) + 1
        answers: list[httpx.Response] = []

        def is_changed() -> bool:
            answers.append(self._change(number))
            return answers[-1].status_code == 200

        wait_until(is_changed, "the database is back, and cannot be changed")
        for refused in answers[:-1]:
            check_unavailable(refused)
        assert self._change(number).headers["idempotency-replayed"] == "true"
        self.acknowledged.append(answers[-1].json()["version"])
        self._readers.wait_for_version(self.acknowledged[-1])
        wait_until(lambda: self._replica.metric(STALE) < _STALE_S, "the database is back, and nobody says so")

    def _change(self, number: int) -> httpx.Response:
        return changing_cell.addition(number, base=1).send(self._replica.client, idempotency_key=f"change {number}")


def check_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json().get("cause")) == (503, "STORE_UNAVAILABLE"), answer.text
    assert int(answer.headers["retry-after"]) >= 1


def _created(client: httpx.Client) -> str:
    answer = changing_cell.replacement(1).send(client)
    assert answer.status_code == 201, answer.text
    version: str = answer.json()["version"]
    return version


def live_through(artifact: Path, folder: Path, outages: int) -> tuple[int, int]:
    """How many versions were acknowledged, and how many users located, in so many outages of both kinds."""
    with ExitStack() as stack:
        redis = RedisServer(folder / "redis")
        stack.callback(redis.kill)
        replica = stack.enter_context(running(redis.url, artifact, folder / "replica.log"))
        version = _created(replica.client)
        readers = stack.enter_context(reading(replica.port, REQUESTS, threads=2))
        outage = Outage(redis, replica, readers, version)
        for number in range(outages):
            (outage.freeze if number % 2 else outage.restart)()
        outage.check()
        return len(outage.acknowledged), len(readers.answers)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Let Redis fail under load.")
    parser.add_argument("--outages", type=int, default=20)
    outages = parser.parse_args(arguments).outages
    with tempfile.TemporaryDirectory() as folder:
        versions, located = live_through(Settings().artifact_directory, Path(folder), outages)
    print(
        f"Redis: {outages} outages; {located:,} users asked meanwhile, each was located; {versions} versions "
        "acknowledged: each is there, and nothing else is",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
