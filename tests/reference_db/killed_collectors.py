"""Kills processes that publish, forget, collect and remove at random moments. Every version that is left is whole.

python -m tests.reference_db.killed_collectors --kills 200              # on a new directory, Redis and cluster
python -m tests.reference_db.killed_collectors --kills 200 redis://...  # on existing, empty stores
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np

from reference_db import (
    Contents,
    MissingSegment,
    Store,
    StoreUnavailable,
    UnknownVersion,
    VersionConflict,
    forget_fingerprints,
    read_contents,
)
from reference_db.update import Origin
from tests.redis_servers import wait_until
from tests.reference_db.killed_writers import CELL, killable_process, leftovers, next_update, open_patiently, places

_ORIGIN = Origin("collector", datetime(2026, 1, 1, tzinfo=UTC))


def change(store: Store, acknowledge: Callable[[int], None], seed: int) -> None:
    """Changes the cell until the process is killed, and acknowledges each change."""
    moments = random.Random(seed)
    done = 0
    while True:
        try:
            _change_once(store, moments)
        except (StoreUnavailable, VersionConflict, UnknownVersion, MissingSegment):
            continue
        done += 1
        acknowledge(done)


def _change_once(store: Store, moments: random.Random) -> None:
    manifest = store.current(CELL.cell_id)
    before = None if manifest is None else read_contents(store, manifest)
    numbers = store.numbers(CELL.cell_id)
    chance = moments.random()
    if before is not None and chance < 0.3:
        store.remove_versions(CELL.cell_id, numbers[: -moments.randint(1, 3)])
    elif before is not None and len(before) > 1 and chance < 0.5:
        doomed = np.arange(len(before.with_deleted())) == 0
        update = forget_fingerprints(before, doomed, numbers, _ORIGIN)
        store.publish(update.manifest, update.segments, before.manifest.digest, update.without)
    elif before is not None and chance < 0.55:
        store.remove_cell(CELL.cell_id, before.manifest.digest)
    else:
        update = next_update(before, lambda number: _read_version(store, number))
        store.publish(update.manifest, update.segments, None if manifest is None else manifest.digest)


def _read_version(store: Store, number: int) -> Contents:
    return read_contents(store, store.manifest(CELL.cell_id, number))


def check(store: Store) -> None:
    """Checks that each version can be read, and that no version is left that a later one has forgotten."""
    numbers = store.numbers(CELL.cell_id)
    for number in numbers:
        contents = _read_version(store, number)
        assert len(contents) == contents.manifest.fingerprints
        if contents.manifest.change.action == "forgotten":
            assert number == numbers[0], f"version {number} has forgotten those before it, but {numbers} are left"
    current = store.current(CELL.cell_id)
    assert (current and current.number) == (numbers[-1] if numbers else None)


def kill_collectors(address: str, kills: int, seed: int) -> int:
    """Kills processes one by one, two at a time at work. Returns how many changes they acknowledged."""
    moments, acknowledged = random.Random(seed), 0
    for kill in range(kills):
        with ExitStack() as stack:
            processes = [
                stack.enter_context(killable_process(address, lambda store, done, n=n: change(store, done, n)))
                for n in (2 * kill, 2 * kill + 1)
            ]
            for _ in range(moments.randint(1, 10)):
                next(processes[0][1])
                acknowledged += 1
            time.sleep(moments.uniform(0, 0.02))
            for pid, _ in processes:
                os.kill(pid, signal.SIGKILL)
        store = open_patiently(address)
        check(store)
        store.close()
    store = open_patiently(address)
    home = {f"cells/{CELL.cell_id}"} | {f"cells/{CELL.cell_id}/{name}" for name in ("lock", "tombstone", "versions")}
    home |= {f"fingerpost:{{{CELL.cell_id}}}:tombstone", "fingerpost:cells", "fingerpost:versions"}
    wait_until(lambda: leftovers(address, store) <= home, f"{leftovers(address, store)} is left")
    store.close()
    return acknowledged


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Kill processes that remove versions at random moments.")
    parser.add_argument(
        "addresses", nargs="*", help="empty directories or Redis URLs; by default a new store of each kind"
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        for address in chosen.addresses or places(stack):
            changes = kill_collectors(address, chosen.kills, chosen.seed)
            print(f"{address}: {2 * chosen.kills} processes killed after {changes} changes; all versions are whole")


if __name__ == "__main__":
    sys.exit(main())
