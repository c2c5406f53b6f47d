"""A real `fingerpost serve --workers 2`, with HAProxy."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from fingerpost import build_locate_body
from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.settings import Settings
from service.workers.division import worker_environment
from service.workers.haproxy import HaproxyMissing, find_haproxy
from tests.redis_servers import GUARD_S, wait_until
from tests.service.running import tiny_service
from tests.service.tiny_cell import ORIGIN, positive_csi, tiny_cell

WORKERS = ("worker-1", "worker-2")
CELLS = [f"cell-{number}" for number in range(12)]
Json = dict[str, Any]

_QUICK: Json = {
    "port": 0,
    "workers": len(WORKERS),
    "inference_threads": 1,
    "calibration_samples": 20,
    "calibration_sigmas_m": (1.0,),
    "follow_period_s": 0.2,
    "drain_s": 0.2,
    # No request is refused for congestion: on a busy machine that would measure the machine.
    "queue_limit_s": GUARD_S,
    "standing_queue_s": GUARD_S,
}


def make_settings(folder: Path, **chosen: Any) -> Settings:
    """Those of a service with two workers and the cells `CELLS`, quick to calibrate."""
    folder.mkdir(exist_ok=True)
    settings = tiny_service(folder)
    store = DirectoryStore(settings.database_directory)
    for cell_id in CELLS:
        csi = positive_csi(40)
        positions = np.stack([np.arange(40), np.zeros(40)], axis=1).astype(np.float32)
        fingerprints = Fingerprints(csi, positions, np.zeros(40), np.full(40, 0.05, np.float32))
        import_fingerprints(store, tiny_cell().model_copy(update={"cell_id": cell_id}), fingerprints, {}, ORIGIN)
    return Settings(**settings.model_dump() | _QUICK | chosen)


def user_in(cell_id: str) -> Json:
    """A user whom the tiny model can locate."""
    return build_locate_body(cell_id, positive_csi(1)[0])


@dataclass(frozen=True)
class Running:
    """A parent that serves at `url`, and the file with its log and its workers'."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def children(self) -> list[psutil.Process]:
        """The workers and HAProxy."""
        return psutil.Process(self.process.pid).children()

    def pid_of(self, worker: str) -> int:
        """The process of a worker now."""
        (found,) = (one.pid for one in self.children() if f"{worker}.sock" in " ".join(one.cmdline()))
        return found

    def directory(self) -> Path:
        """The private directory of the sockets."""
        command = next(command for one in self.children() if "--worker" in (command := one.cmdline()))
        return Path(command[-1]).parent

    def worker_client(self, worker: str, **settings: Any) -> httpx.Client:
        """A client of one worker, past HAProxy."""
        transport = httpx.HTTPTransport(uds=str(self.directory() / f"{worker}.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=GUARD_S, **settings)


@contextmanager
def running(settings: Settings, log: Path) -> Iterator[Running]:
    """The service. At the end it must stop by itself, and no process may be left."""
    with log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "fingerpost", "serve"],
            env=worker_environment(settings, os.environ),
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    children: list[psutil.Process] = []
    directory = None
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"serving at (https?://[^\s\"]+)", line)
            assert found is not None, line + log.read_text()
            service = Running(found[1], process, log)
            children, directory = service.children(), service.directory()
            yield service
            if process.poll() is None:
                children = service.children()
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(GUARD_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
            if process.returncode == -signal.SIGKILL and directory is not None:
                shutil.rmtree(directory)  # nobody was left to remove it
        assert process.returncode in (0, -signal.SIGKILL), log.read_text()
        assert directory is not None
        assert not directory.exists()
        wait_until(lambda: not any(map(is_alive, children)), "processes are left")


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def skip_without_haproxy() -> None:
    try:
        find_haproxy(len(WORKERS))
    except HaproxyMissing as error:
        pytest.skip(str(error))


def route(client: httpx.Client, cell_ids: Sequence[str] = CELLS, **headers: str) -> dict[str, str]:
    """The worker that serves each cell."""
    answers = {cell_id: client.get(f"/cells/{cell_id}", headers=headers) for cell_id in cell_ids}
    return {cell_id: answer.headers["Fingerpost-Replica"] for cell_id, answer in answers.items()}


def cell_of_each_worker(client: httpx.Client, **headers: str) -> dict[str, str]:
    """A cell of each worker by the worker's name."""
    return {worker: cell_id for cell_id, worker in route(client, **headers).items()}
