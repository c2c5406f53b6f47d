"""Real replicas of the service on one reference database, as processes of their own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.redis_servers import GUARD_S

SERVING = "fingerpost: serving at "
NEVER_S = 3600.0  # longer than any test


class Replica(NamedTuple):
    """A running service: a client of it, the file in which it tells what happens to it, and its process."""

    client: httpx.Client
    log: Path
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        port = self.client.base_url.port
        assert port is not None
        return port

    def metric(self, name: str) -> float:
        """What it counts under a name with its labels, as in Prometheus' text; 0 where it has not begun to."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def version(self, cell_id: str) -> str:
        """A cell's current version, as the store has it."""
        answer = self.client.get(f"/cells/{cell_id}")
        assert answer.status_code == 200, answer.text
        version: str = answer.json()["version"]
        return version


@contextmanager
def running(
    database: str | Path, artifact: Path, log: Path, *, exit_status: int = 0, **settings: object
) -> Iterator[Replica]:
    """The service on a directory or Redis, up; `settings` beside few samples, as `Settings` names them.

    Nobody is refused for waiting: on a machine with other work to do that would tell of the machine.
    """
    chosen = {
        "port": 0,
        "artifact_directory": artifact,
        "redis_url" if "://" in str(database) else "database_directory": database,
        "inference_threads": 1,
        "frame_cache_bytes": 4096 if artifact.name == "tiny" else 64 * 2**20,
        "queue_limit_s": GUARD_S,
        "standing_queue_s": GUARD_S,
        "calibration_samples": 20,
        "calibration_sigmas_m": "[1.0]",
        "follow_period_s": 0.2,
    } | settings
    environment = {f"FINGERPOST_{name.upper()}": str(value) for name, value in chosen.items()}
    with log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "fingerpost", "serve"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith(SERVING), log.read_text()
                with httpx.Client(base_url=line.removeprefix(SERVING).split()[0], timeout=GUARD_S) as client:
                    yield Replica(client, log, process)
            finally:
                process.send_signal(signal.SIGINT)  # which does not wait for balancers
                try:
                    assert process.wait(GUARD_S) == exit_status, log.read_text()
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
