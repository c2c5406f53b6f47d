"""The service under other ASGI servers: ``python -m benchmarks.serving.asgi_servers``.

The same app under `fingerpost serve` (uvicorn with our limits for clients), under uvicorn as it comes, and under
Granian, if ``pip install granian`` has been run. In turns, `--rounds` of each. Writes
``benchmarks/results/asgi_servers.md``, or ``var/bench/asgi_servers.md`` with ``--quick``, and prints the table.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.__main__ import FOLDER, RESULTS, prepare
from benchmarks.serving.campaign import QUICK, SWEEP, Figures, measure
from benchmarks.serving.generator import build
from benchmarks.serving.served_models import shipped
from benchmarks.serving.servers import THIS_CHECKOUT, Command, fingerpost
from benchmarks.serving.workload import make_load

BATCHES = (1, 16)


def create() -> Any:
    """The app with the settings of the environment, for servers that take a factory."""
    from service.app import create_app
    from service.settings import Settings

    return create_app(Settings())


def main() -> None:
    parser = argparse.ArgumentParser(description="The service under other ASGI servers.")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model, generator = shipped(), build(FOLDER)
    database = prepare(model, 1, FOLDER / model.label)
    loads = [make_load("shared", users, "msgpack", [cells.street(0)], FOLDER / model.label) for users in BATCHES]
    found: dict[tuple[str, int], list[Figures]] = {}
    for _ in range(1 if given.quick else given.rounds):
        for name, command in list_commands(database, model.folder).items():
            for load in loads[:1] if given.quick else loads:
                figures = measure(generator, command, load, QUICK if given.quick else SWEEP)
                found.setdefault((name, load.users), []).append(figures)
                print(f"bench: {name}, {load.users} users a request: done", file=sys.stderr, flush=True)
    text = report(found)
    (FOLDER if given.quick else RESULTS).joinpath("asgi_servers.md").write_text(text)
    print(text)


def list_commands(database: Path, artifact: Path) -> dict[str, Command]:
    settings = {
        "FINGERPOST_DATABASE_DIRECTORY": str(database.resolve()),
        "FINGERPOST_ARTIFACT_DIRECTORY": str(artifact.resolve()),
        "FINGERPOST_DRAIN_S": "0",
    }
    factory = "benchmarks.serving.asgi_servers:create"
    servers = {
        "uvicorn": ("uvicorn", "--factory", factory, "--port", "{port}", "--no-access-log"),
        "Granian": ("granian", "--factory", factory, "--port", "{port}", "--interface", "asgi", "--no-ws"),
    }
    if importlib.util.find_spec("granian") is None:
        del servers["Granian"]
        print("bench: no Granian here; `pip install granian` brings it", file=sys.stderr)
    folder = THIS_CHECKOUT.folder
    others = {
        name: Command(name, (sys.executable, "-m", *words), "/health/ready", settings, folder)
        for name, words in servers.items()
    }
    return {"fingerpost serve": fingerpost(database, artifact)} | others


def report(found: dict[tuple[str, int], list[Figures]]) -> str:
    """The results as Markdown."""
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    head = (
        "server",
        "users a request",
        "locations/s, p99 ≤ 20 ms",
        "highest rate",
        "p50 ms one by one",
        "CPU ms a location",
    )
    rows = [
        (
            name,
            str(users),
            f"{median(one.locations_per_s for one in rounds):,.0f}",
            f"{median(one.most_locations_per_s for one in rounds):,.0f}",
            f"{1e3 * median(one.unloaded_p50 for one in rounds):.2f}",
            f"{1e3 * median(one.half.cpu_s_per_location for one in rounds):.2f}",
        )
        for (name, users), rounds in found.items()
    ]
    return (
        "# The service under other ASGI servers\n\n"
        f"{datetime.now(UTC).date().isoformat()}. `python -m benchmarks.serving.asgi_servers`: {words}. The shipped "
        "model, users in one shared tile, msgpack; medians of the rounds. Only `fingerpost serve` limits what clients "
        "may take: connections, slow heads, unread answers.\n\n"
        f"{table(head, rows)}\n"
    )


if __name__ == "__main__":
    main()
