"""What updates cost users, and when users see them: ``python -m benchmarks.updates``; ``--quick`` is a smoke test.

A complete run writes ``benchmarks/results/updates.md`` and ``.json``; a partial run writes them to ``var/bench/``. Both
print the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.serving import machine
from benchmarks.serving.generator import build
from benchmarks.serving.served_models import shipped
from benchmarks.updates.latency import Latency, measure_latency
from benchmarks.updates.table import markdown
from benchmarks.updates.visibility import Visibility, measure_visibility
from tests.redis_servers import RedisServer, redis_server_binary

FOLDER = Path("var/bench")
RESULTS = Path("benchmarks/results")
STORES = ("directory", "Redis")
PARTS = ("latency", "visibility")


@dataclass(frozen=True)
class Plan:
    """`updates` under load, `quiet_s` of load before and after; `appends` of `portion` to a cell of `fingerprints`."""

    updates: int
    quiet_s: float
    fingerprints: int
    portion: int
    appends: int


FULL = Plan(updates=60, quiet_s=30.0, fingerprints=100_000, portion=1_000, appends=24)
QUICK = Plan(updates=10, quiet_s=2.0, fingerprints=2_000, portion=200, appends=3)


@dataclass(frozen=True)
class Report:
    date: str
    command: str
    quick: bool
    machine: dict[str, str]
    latency: list[Latency]
    visibility: list[Visibility]

    def write(self, folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "updates.json").write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        text = markdown(self.date, self.command, self.quick, self.machine, self.latency, self.visibility)
        (folder / "updates.md").write_text(text)
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="What updates cost users, and when users see them.")
    parser.add_argument("--quick", action="store_true", help="a smoke test of about a minute")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    complete = not given.quick and set(given.stores) == set(STORES) and set(given.parts) == set(PARTS)
    plan, artifact, generator = QUICK if given.quick else FULL, shipped().folder, build(FOLDER)
    latency, visibility = [], []
    with tempfile.TemporaryDirectory(prefix="updates-", dir=FOLDER) as scratch:
        for store in given.stores:
            folder = Path(scratch) / store
            folder.mkdir()
            if "latency" in given.parts:
                _say(f"{store}: users during {plan.updates} updates")
                with _database(store, folder / "street") as database:
                    latency.append(
                        measure_latency(generator, store, database, artifact, plan.updates, plan.quiet_s, folder)
                    )
            if "visibility" in given.parts:
                _say(f"{store}: {plan.appends} times {plan.portion:,} appended to {plan.fingerprints:,} fingerprints")
                with _database(store, folder / "town") as database:
                    sizes = (plan.fingerprints, plan.portion, plan.appends)
                    visibility.append(measure_visibility(store, database, artifact, *sizes))
            shutil.rmtree(folder)
    report = Report(
        date=datetime.now(UTC).date().isoformat(),
        command=" ".join(["python -m benchmarks.updates", *sys.argv[1:]]),
        quick=given.quick,
        machine=_machine(generator),
        latency=latency,
        visibility=visibility,
    )
    print(report.write(RESULTS if complete else FOLDER))


@contextlib.contextmanager
def _database(store: str, folder: Path) -> Iterator[Path | str]:
    """An empty database. Redis writes every command to the disk before it answers."""
    if store == "directory":
        folder.mkdir()
        yield folder
        return
    server = RedisServer(folder)
    try:
        yield server.url
    finally:
        server.kill()


def _machine(generator: Path) -> dict[str, str]:
    words = machine.describe(None, generator)
    if binary := redis_server_binary():
        told = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
        words["Redis"] = next(word.removeprefix("v=") for word in told.split() if word.startswith("v="))
    return words


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
