"""Kills writers at random moments and checks that every acknowledged version is there and no version is incomplete.

    python -m tests.reference_db.killed_writers --kills 200              # on a new directory, Redis and cluster
    python -m tests.reference_db.killed_writers --kills 200 redis://...  # on existing, empty stores

The contents of the n-th version follow from n alone, so the checker can compute what each version should contain.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from reference_db import (
    AntennaArray,
    Cell,
    Contents,
    Fingerprints,
    Origin,
    Store,
    StoreUnavailable,
    Update,
    VersionConflict,
    append_fingerprints,
    delete_fingerprints,
    open_store,
    read_contents,
    replace_cell,
    roll_back,
)
from reference_db.stores.redis import RedisStore
from reference_db.stores.redis_client import RedisClient
from tests.redis_servers import PATIENCE_S, RedisCluster, RedisServer, wait_until

CELL = Cell(
    cell_id="updated",
    latitude_deg=43.7,
    longitude_deg=11.2,
    height=10,
    yaw=0,
    array=AntennaArray(rows=1, columns=2),
    carrier_frequency=3.5e9,
    bandwidth=40e6,
    subcarriers=3,
)
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_DRAFT_LIFE_S = 2.0  # far longer than a publish takes, so that only drafts of killed writers expire


def next_update(before: Contents | None, version: Callable[[int], Contents]) -> Update:
    """The update that follows a version of `CELL`, usually an append. `version` returns older versions."""
    number = 1 if before is None else before.manifest.number + 1
    origin = Origin("writer", _BEGINNING + timedelta(seconds=number))
    batch = _batch(number)
    if before is None or number % 50 == 0:
        return replace_cell(before and before.manifest, CELL, batch, origin)
    if number % 5 == 0:
        return delete_fingerprints(before, np.arange(len(before)) % 3 == 0, origin)
    if number % 7 == 0:
        return roll_back(before.manifest, version(number - 3), origin)
    return append_fingerprints(before, batch, origin)


class History:
    """The expected versions of `CELL`, made without a store."""

    def __init__(self) -> None:
        self._versions: list[Contents] = []

    def version(self, number: int) -> Contents:
        while len(self._versions) < number:
            before = self._versions[-1] if self._versions else None
            self._versions.append(next_update(before, self.version).contents)
        return self._versions[number - 1]


def write(store: Store, acknowledge: Callable[[int], None]) -> None:
    """Updates the cell until the process is killed, and acknowledges the number of each version."""
    while True:
        try:
            manifest = store.current(CELL.cell_id)
            before = None if manifest is None else read_contents(store, manifest)
            update = next_update(before, lambda n: read_contents(store, store.manifest(CELL.cell_id, n)))
            store.publish(update.manifest, update.segments, None if manifest is None else manifest.digest)
        except (StoreUnavailable, VersionConflict):  # possible on a busy machine; like any writer, this one tries again
            continue
        acknowledge(update.manifest.number)


def check(store: Store, history: History, acknowledged: int, since: int = 1) -> int:
    """Checks all versions from number `since` on, and returns the number of the newest."""
    current = store.current(CELL.cell_id)
    newest = 0 if current is None else current.number
    assert store.numbers(CELL.cell_id) == list(range(1, newest + 1)), "a version is missing"
    assert newest >= acknowledged, f"version {acknowledged} was acknowledged and is lost: {newest} is the newest"
    assert newest <= acknowledged + 1, f"version {newest} is there, and nobody wrote it"
    for number in range(max(since, 1), newest + 1):
        should_be = history.version(number)
        manifest = store.manifest(CELL.cell_id, number)
        assert manifest == should_be.manifest, f"version {number} is another one"
        np.testing.assert_array_equal(read_contents(store, manifest).ids, should_be.ids)
    current = store.current(CELL.cell_id)
    assert current is None or current.number == newest
    return newest


def leftovers(address: str, store: Store) -> set[str]:
    """The files or keys in a store that belong to no version."""
    if "://" not in address:
        return _paths(Path(address)) - _paths_needed(store)
    client = RedisClient(address, 60)
    with client.connected() as connection:
        keys = {key.decode() for key in connection.scan_iter()}
    client.close()
    return keys - _keys_needed(store)


def kill_writers(address: str, kills: int, seed: int) -> tuple[int, int]:
    """Kills writers one by one. Returns how many versions they acknowledged, and how many they only published."""
    moments, history = random.Random(seed), History()
    acknowledged = newest = silent = 0
    typical_s = 0.0
    for kill in range(kills):
        with killable_process(address, write) as (pid, answers):
            begun = time.monotonic()
            for _ in range(moments.choice((0, 0, 1, 2)) if kill else 10):
                acknowledged = next(answers)
            if not kill:  # measures how long a publish takes on this machine
                typical_s = (time.monotonic() - begun) / 10
            time.sleep(moments.uniform(0, 2 * typical_s))
            os.kill(pid, signal.SIGKILL)
            for number in answers:
                acknowledged = number
        store = open_patiently(address)
        since, newest = newest, check(store, history, acknowledged, newest)
        silent += newest > max(acknowledged, since)
        acknowledged = newest
        if "://" not in address:
            assert not leftovers(address, store), leftovers(address, store)
        store.close()
    store = open_patiently(address)
    check(store, history, acknowledged)
    wait_until(lambda: not leftovers(address, store), "drafts of dead writers do not expire")
    store.close()
    return newest - silent, silent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Kill writers of a reference database at random moments.")
    parser.add_argument(
        "addresses", nargs="*", help="empty directories or Redis URLs; by default a new store of each kind"
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        for address in chosen.addresses or places(stack):
            acknowledged, silent = kill_writers(address, chosen.kills, chosen.seed)
            print(
                f"{address}: {chosen.kills} writers killed; {acknowledged} versions acknowledged and {silent} more "
                "published; all are complete and nothing else is left",
                flush=True,
            )


def places(stack: ExitStack) -> Iterator[str]:
    """The addresses of a new directory, Redis server and Redis cluster."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield str(folder / "store")
    server = RedisServer(folder / "redis")
    stack.callback(server.kill)
    yield server.url
    cluster = RedisCluster(folder / "cluster")
    stack.callback(cluster.kill)
    yield cluster.url


def open_patiently(address: str) -> Store:
    """A store that waits long enough for Redis on a busy machine."""
    if "://" not in address:
        return open_store(address)
    return RedisStore(address, timeout_s=PATIENCE_S, draft_life_s=_DRAFT_LIFE_S)


@contextmanager
def killable_process(
    address: str, work: Callable[[Store, Callable[[int], None]], None]
) -> Iterator[tuple[int, Iterator[int]]]:
    """Forks a process that does `work`. Yields its id and the numbers that it acknowledges. Only a kill may end it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.write(writing, b"0\n")
            work(open_patiently(address), lambda number: _acknowledge(writing, number))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        with os.fdopen(reading) as lines:
            numbers = map(int, lines)
            next(numbers)  # the process has started
            yield pid, numbers
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "a process died without being killed"


def _acknowledge(writing: int, number: int) -> None:
    os.write(writing, f"{number}\n".encode())


def _batch(number: int) -> Fingerprints:
    n, noise = 2 + number % 3, np.random.default_rng(number)
    csi = noise.normal(size=(n, CELL.antennas, CELL.subcarriers, 2)).astype(np.float32).view(np.complex64)[..., 0]
    positions = noise.uniform(-50, 50, (n, 2)).astype(np.float32)
    return Fingerprints(csi, positions, 1.7e9 + number + np.arange(n) / 10, np.full(n, 0.05, np.float32))


def _paths(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def _paths_needed(store: Store) -> set[str]:
    needed = {"cells"}
    for cell_id in store.cells():
        home = f"cells/{cell_id}"
        needed |= {home, f"{home}/lock", f"{home}/drafts", f"{home}/versions"}
        for number in store.numbers(cell_id):
            manifest, folder = store.manifest(cell_id, number), f"{home}/versions/{number:010d}"
            needed |= {folder, f"{folder}/manifest.json", f"{folder}/{manifest.digest}"}
            needed |= {f"{folder}/{segment.digest}.safetensors" for segment in manifest.segments}
    return needed


def _keys_needed(store: Store) -> set[str]:
    needed = {"fingerpost:cells", "fingerpost:versions"}
    for cell_id in store.cells():
        home = f"fingerpost:{{{cell_id}}}"
        needed |= {f"{home}:current", f"{home}:manifests"}
        manifests = [store.manifest(cell_id, number) for number in store.numbers(cell_id)]
        needed |= {f"{home}:segment:{one.digest}" for manifest in manifests for one in manifest.segments}
    return needed


if __name__ == "__main__":
    sys.exit(main())
