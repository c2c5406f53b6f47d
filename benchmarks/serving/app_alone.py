"""The app of a checkout without server and model: CPU seconds of a request.

`App` runs this file as a script in a process of its own, so that the two checkouts of a pair do not mix. The script
imports `service` from the checkout in PYTHONPATH, and nothing of the benchmarks. It makes the real
`create_app(Settings())`, replaces `Dispatcher.locate` by a function whose answer is ready at once, and calls the app
as an ASGI server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROUTES = {"locate": ("POST", "/locate"), "live": ("GET", "/health/live")}
_DISPATCHERS = ("service.inference.dispatcher", "service.dispatcher")  # the second: before the rebuild
_POSITION_M = (1.0, 2.0)  # every answer
_WARM_UP = 500  # requests


class AppFailed(RuntimeError):
    """The app did not start or did not answer 200; the text is the end of what its process wrote to stderr."""


@dataclass(frozen=True)
class App:
    process: subprocess.Popen[str]
    log: Any

    @classmethod
    @contextlib.contextmanager
    def running(cls, checkout: Path, bodies: Path, environment: Mapping[str, str]) -> Iterator[Self]:
        """`bodies` has a JSON request for ``/locate`` on each line. Raises `AppFailed`."""
        # -P: the modules beside this file must not hide the standard library's.
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(bodies.resolve())]
        variables = os.environ | environment | {"PYTHONPATH": str(checkout)}
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                command, cwd=checkout, env=variables, stdin=-1, stdout=-1, stderr=log, text=True, bufsize=1
            )
            try:
                app = cls(process, log)
                for route in ROUTES:
                    app.cpu_of(route, _WARM_UP)
                yield app
            finally:
                process.communicate()

    def cpu_of(self, route: str, requests: int) -> float:
        """CPU seconds of one request to one of `ROUTES`, all threads together. Raises `AppFailed`."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{route} {requests}\n")
        if not (line := self.process.stdout.readline()):
            self.process.wait()
            self.log.seek(0)
            raise AppFailed(self.log.read()[-2000:])
        return float(line)


class _Driver:
    """Calls an ASGI app one request at a time."""

    def __init__(self, app: Any, bodies: list[bytes]) -> None:
        self._app, self._bodies, self._state = app, bodies, dict[str, Any]()

    async def start(self) -> None:
        """Runs the app's lifespan up to its start; the lifespan's task stays behind."""
        started = asyncio.get_running_loop().create_future()
        events = iter(({"type": "lifespan.startup"},))

        async def receive() -> dict[str, Any]:
            return next(events, None) or await _never()

        async def send(message: dict[str, Any]) -> None:
            started.set_result(message)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._lifespan = asyncio.create_task(self._app(scope, receive, send))
        message = await started
        if message["type"] != "lifespan.startup.complete":
            raise SystemExit(f"the app did not start: {message.get('message')}")

    async def cpu_of(self, route: str, requests: int) -> float:
        method, path = ROUTES[route]
        bodies = self._bodies if method == "POST" else [b""]
        scopes = [self._scope(method, path, body) for body in bodies]
        await self._ask(scopes[0], bodies[0])
        started = time.process_time()
        for i in range(requests):
            await self._ask(scopes[i % len(scopes)], bodies[i % len(bodies)])
        return (time.process_time() - started) / requests

    async def _ask(self, scope: dict[str, Any], body: bytes) -> None:
        events = iter(({"type": "http.request", "body": body, "more_body": False},))
        status, sent = 0, []

        async def receive() -> dict[str, Any]:
            return next(events, None) or await _never()

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent.append(message.get("body", b""))

        await self._app({**scope, "state": self._state.copy()}, receive, send)
        if status != 200:
            raise SystemExit(f"{scope['path']} answered {status}: {b''.join(sent).decode()}")

    def _scope(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """As uvicorn makes it for a client of the kind of `fingerpost.Client`."""
        headers = [
            (b"host", b"127.0.0.1:8080"),
            (b"accept", b"*/*"),
            (b"user-agent", b"python-httpx/0.28.1"),
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
        ]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 40000),
            "scheme": "http",
            "root_path": "",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
        }


async def _never() -> Any:
    return await asyncio.get_running_loop().create_future()


def _answer_at_once() -> None:
    """Replaces `Dispatcher.locate`, so that no request reaches the model."""
    import numpy as np

    position: Any = np.array(_POSITION_M, np.float32)
    # By file, not by import: an installed checkout would lend the module that the one in PYTHONPATH lacks.
    name = next(name for name in _DISPATCHERS if Path(f"{name.replace('.', '/')}.py").exists())
    module = importlib.import_module(name)
    original = module.Dispatcher.locate
    estimator = importlib.import_module(name.replace("dispatcher", "estimator"))
    if hasattr(estimator, "Estimate"):  # older versions answer the bare position
        covariance = {"covariance": np.eye(2, dtype=np.float32)} if "covariance" in estimator.Estimate._fields else {}
        position = estimator.Estimate(position, coarse_used=True, **covariance)

    def locate(*args: object, **kwargs: object) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(position)
        return answer

    async def locate_later(*args: object, **kwargs: object) -> Any:
        return position

    module.Dispatcher.locate = locate_later if inspect.iscoroutinefunction(original) else locate


async def _serve_stdin(driver: _Driver) -> None:
    await driver.start()
    # As the service does before it serves: what is here now stays, and the collector need not look through it.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        route, requests = line.split()
        print(json.dumps(await driver.cpu_of(route, int(requests))), flush=True)


def main() -> None:
    import uvloop

    import service

    if service.__file__ is None or not Path(service.__file__).resolve().is_relative_to(Path.cwd()):
        raise SystemExit(f"{service.__file__} is not in {Path.cwd()}")
    _answer_at_once()
    from service.app import create_app
    from service.settings import Settings

    bodies = Path(sys.argv[1]).read_bytes().splitlines()
    uvloop.run(_serve_stdin(_Driver(create_app(Settings()), bodies)))


if __name__ == "__main__":
    main()
