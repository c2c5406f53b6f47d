"""Where the time of one single request goes, stage by stage: ``python -m benchmarks.serving.stages``.

Asks a real server for one user after another, of a tile that all users share and whose frame is ready, and reads the
time of each stage off its metrics. Nothing waits for anything else, so that times are those of the work itself. Writes
``benchmarks/results/stages.md``, or ``var/bench/stages.md`` with ``--quick``, and prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.__main__ import FOLDER, RESULTS, prepare
from benchmarks.serving.app_alone import App
from benchmarks.serving.served_models import ServedModel, paper_size, shipped
from benchmarks.serving.servers import THIS_CHECKOUT, Server, fingerpost, running
from benchmarks.serving.workload import encode_request, users_at_one_place
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.owner_thread import OwnerThread
from service.inference.steps import in_one_long_step
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

# What a stage of the metrics does for one user; in the order of a request.
STAGES = {
    "decode": "parse and validate the body, decode the CSI",
    "retrieve": "spectrum of the user, most similar fingerprints, first guess, belonging, tile",
    "describe": "graph describe: features of the CSI",
    "frame": "look up the frame of the tile",
    "infer": "graph query: compare with the frame",
    "encode": "ellipse, position on the globe, body of the answer",
}
_METRIC = "fingerpost_stage_duration_seconds"
_MEDIA_TYPE = "application/msgpack"
_USERS, _WARM_UP, _APP_REQUESTS = 64, 200, 2_000
_HAND_OVERS, _PAUSE_S = 500, 0.003


@dataclass(frozen=True)
class Request:
    """Seconds of a request on average. `stages` by name; `app_cpu` is that of the app without server and model.

    `hand_over` is to the model's thread and back, a part of the rest. `cpu_loop` is the CPU time of the event loop's
    thread, `cpu_others` that of all other threads.
    """

    stages: dict[str, float]
    latency: float
    hand_over: float
    app_cpu: float
    cpu_loop: float
    cpu_others: float

    @property
    def rest(self) -> float:
        """Outside of all stages."""
        return self.latency - sum(self.stages.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of one single request goes.")
    parser.add_argument("--quick", action="store_true", help="a smoke test with the shipped model only")
    quick = parser.parse_args().quick
    models = [shipped()] if quick else [shipped(), paper_size(FOLDER)]
    measured = [(model, measure(model, requests=100 if quick else 2_000)) for model in models]
    text = report(measured)
    path = (FOLDER if quick else RESULTS) / "stages.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)


def measure(model: ServedModel, requests: int) -> Request:
    """Asks a server `requests` times, one after another."""
    database = prepare(model, 1, FOLDER / model.label)
    users = users_at_one_place(*cells.street(0), users=_USERS)
    parts = [users.part(slice(i, i + 1)) for i in range(_USERS)]
    bodies = [encode_request(part, "msgpack") for part in parts]
    with running(fingerpost(database, model.folder)) as server:
        _ask(server, bodies, _WARM_UP)
        stages, threads = _read_stages(server), _read_threads(server)
        latency = _ask(server, bodies, requests)
        spent = {name: seconds - stages.get(name, 0.0) for name, seconds in _read_stages(server).items()}
        cpu = {thread: seconds - threads.get(thread, 0.0) for thread, seconds in _read_threads(server).items()}
    loop = cpu.pop(server.process.pid)
    return Request(
        stages={name: spent.get(name, 0.0) / requests for name in STAGES},
        latency=latency,
        hand_over=asyncio.run(_measure_hand_over()),
        app_cpu=_measure_app(model, database, [encode_request(part, "json") for part in parts]),
        cpu_loop=loop / requests,
        cpu_others=sum(cpu.values()) / requests,
    )


def report(measured: Sequence[tuple[ServedModel, Request]]) -> str:
    """The results as Markdown."""
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    found = [request for _, request in measured]
    rows = [(name, what, *(_us(request.stages[name]) for request in found)) for name, what in STAGES.items()]
    rows += [
        (
            "rest",
            "socket, HTTP, routing, drift, counts, hand-over to the model's thread and back",
            *map(_us, (one.rest for one in found)),
        ),
        (
            "hand-over",
            f"of the rest: without server and model, after pauses of {1000 * _PAUSE_S:.0f} ms",
            *map(_us, (one.hand_over for one in found)),
        ),
        ("**latency**", "as the client sees it", *map(_us, (one.latency for one in found))),
        ("app's CPU", "without server and model; the body is JSON", *map(_us, (one.app_cpu for one in found))),
        ("loop's CPU", "thread of the event loop, with the server", *map(_us, (one.cpu_loop for one in found))),
        ("others' CPU", "all other threads, with ONNX Runtime's", *map(_us, (one.cpu_others for one in found))),
    ]
    head = ("stage", "what happens", *(model.name for model, _ in measured))
    return (
        "# One single request, stage by stage\n\n"
        f"{datetime.now(UTC).date().isoformat()}. `python -m benchmarks.serving.stages`: {words}. One user after "
        "another in a shared tile whose frame is ready, msgpack, 32 x 32 complex64, with a coarse position, "
        "client and server on one machine. Microseconds a request, on average.\n\n"
        f"{table(head, rows)}\n"
    )


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f}"


def _ask(server: Server, bodies: Sequence[bytes], requests: int) -> float:
    """Seconds of a request on average."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    started = time.perf_counter()
    for i in range(requests):
        connection.request("POST", "/locate", bodies[i % len(bodies)], {"Content-Type": _MEDIA_TYPE})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the service answered {answer.status}: {body[:500]!r}")
    seconds = (time.perf_counter() - started) / requests
    connection.close()
    return seconds


def _read_stages(server: Server) -> dict[str, float]:
    """Seconds that the server has spent in each stage since its start."""
    return {one.labels["stage"]: one.value for one in server.read_metrics() if one.name == f"{_METRIC}_sum"}


def _read_threads(server: Server) -> dict[int, float]:
    """CPU seconds of each thread."""
    return {thread.id: thread.user_time + thread.system_time for thread in server.process.threads()}


async def _measure_hand_over() -> float:
    """Seconds from the event loop to the thread of the model and back, where that thread has nothing to do."""
    owner = OwnerThread("owner", "it has been stopped")
    dispatcher = Dispatcher(in_one_long_step(_echo), owner, 1, Admission(math.inf, math.inf), Metrics())
    seconds = 0.0
    for user in range(_HAND_OVERS):
        await asyncio.sleep(_PAUSE_S)  # as between two requests: the thread sleeps
        started = time.perf_counter()
        await dispatcher.locate(user, math.inf, "single")
        seconds += time.perf_counter() - started
    owner.close()
    return seconds / _HAND_OVERS


def _echo(users: Sequence[int], stopwatch: Stopwatch) -> list[int]:
    return [*users]


def _measure_app(model: ServedModel, database: Path, bodies: Sequence[bytes]) -> float:
    file = FOLDER / model.label / "app.bodies"
    file.write_bytes(b"\n".join(bodies))
    environment = {
        "FINGERPOST_DATABASE_DIRECTORY": str(database.resolve()),
        "FINGERPOST_ARTIFACT_DIRECTORY": str(model.folder.resolve()),
    }
    with App.running(THIS_CHECKOUT.folder, file, environment) as app:
        return min(app.cpu_of("locate", _APP_REQUESTS // 10) for _ in range(10))


if __name__ == "__main__":
    main()
