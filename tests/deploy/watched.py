"""A real service under load, and a real Prometheus that scrapes it every second with the shipped configuration."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import yaml

from fingerpost import build_locate_body
from reference_db import DirectoryStore, import_fingerprints
from tests.damage import damage
from tests.deploy.balanced import DEADLINE_S, running, url_of
from tests.deploy.dockerfile import ROOT
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_service import added_key, bearing

FOLDER = ROOT / "deploy" / "prometheus"
_PERIOD_S = 1
_FOREIGN = 16  # users of another street a round
_CALIBRATION = {"FINGERPOST_CALIBRATION_SAMPLES": "20", "FINGERPOST_CALIBRATION_SIGMAS_M": "[1.0]"}


class Watched(NamedTuple):
    """The service and the Prometheus that watches it."""

    service: httpx.Client
    prometheus: httpx.Client

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples that a query returns now."""
        answer = self.prometheus.post("/api/v1/query", data={"query": query})
        assert answer.status_code == 200, f"{query}: {answer.text}"
        result = answer.json()["data"]["result"]
        return list(result)

    def rules(self) -> list[dict[str, Any]]:
        groups = self.prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def load(self, number: int) -> None:
        """One round of requests of users and operators, valid and invalid.

        The street of the cell `changed` is another one than it was: users have other CSI, truths are elsewhere.
        """
        client, rng = self.service, np.random.default_rng(number)
        places = rng.uniform((35, -15), (65, 15), (6, 2)).astype(np.float32)
        measured = users_at(places)
        users = [
            build_locate_body("plane", csi, {"x": float(east), "y": float(north), "hAccuracy": 1.0})
            for csi, (east, north) in zip(measured, places, strict=True)
        ]
        without_fix = {name: value for name, value in users[0].items() if name != "coarsePosition"}
        for body, status in (
            (users[0] | {"hAccuracy": 1e4}, 200),
            (users[1] | {"hAccuracy": 1e-4}, 200),
            (without_fix, 200),
            (users[2] | {"cellId": "nowhere"}, 404),
            (users[2] | {"cellId": "damaged"}, 500),
            (users[2] | {"maxRespTime": 1e-9}, 504),
            (users[2] | {"timestamp": "9999-01-01T00:00:00Z"}, 400),
            ({"cellId": "plane"}, 400),
        ):
            answer = client.post("/locate", json=body)
            assert answer.status_code == status, answer.text
        assert client.post("/locate/batch", json={"items": users}).status_code == 200
        noise = rng.standard_normal((_FOREIGN, *measured.shape[1:], 2)) @ (1, 1j)
        noise *= np.sqrt(np.square(np.abs(measured)).mean() / 2)
        foreign = [build_locate_body("changed", csi) for csi in noise.astype(np.complex64)]
        assert client.post("/locate/batch", json={"items": foreign}).status_code == 200
        truths = [
            {"csi": user["csi"], "x": float(east), "y": float(north) + 10, "sigma": 0.05}
            for user, (east, north) in zip(users, places, strict=True)
        ]
        answer = client.post("/cells/changed/truths", json={"items": truths})
        assert answer.status_code == 200, answer.text
        for cell_id, status in (("plane", 200), ("damaged", 500)):
            answer = client.put(f"/cells/{cell_id}/retention", json={"maxFingerprints": 1000 + number})
            assert answer.status_code == status, answer.text


@contextmanager
def watch(prometheus: str, folder: Path) -> Iterator[Watched]:
    key = added_key(folder / "keys.json", ["locate", "read", "operate"])
    settings = {
        "FINGERPOST_PORT": "0",
        "FINGERPOST_KEYS_FILE": str(folder / "keys.json"),
        "FINGERPOST_METRICS_WITHOUT_KEY": "true",
        "FINGERPOST_DATABASE_DIRECTORY": str(_database(folder / "database")),
        "FINGERPOST_INFERENCE_THREADS": "1",
        "FINGERPOST_CELL_SERIES": "1",
    } | _CALIBRATION
    log = folder / "log"
    serve = [sys.executable, "-m", "fingerpost", "serve"]
    with running(serve, settings, stop=signal.SIGINT) as service, log.open("w") as out:
        url = url_of(service)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(url.removeprefix("http://"))))
        command = [prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'series'}"]
        command += ["--web.listen-address=127.0.0.1:0"]
        with (
            running(command, {}, out=out, err=out),
            httpx.Client(base_url=url, headers=bearing(key), timeout=DEADLINE_S) as client,
            httpx.Client(base_url=f"http://{_address(log)}", timeout=DEADLINE_S) as observer,
        ):
            yield Watched(client, observer)


def _database(directory: Path) -> Path:
    """Three cells; the fingerprints of one are missing."""
    store = DirectoryStore(directory)
    fingerprints = replace(fingerprints_at(street(80, seed=1)), times=np.full(80, 1.7e9))
    for cell_id in ("plane", "changed", "damaged"):
        import_fingerprints(store, make_cell(cell_id), fingerprints, {}, ORIGIN)
    for segment in (directory / "cells" / "damaged").rglob("*.safetensors"):
        damage(segment, b"")
    return directory


def _configuration(address: str) -> dict[str, Any]:
    """The shipped configuration, with other addresses, paths and periods."""
    configuration: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    every = f"{_PERIOD_S}s"
    configuration["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    del configuration["alerting"]
    for job in configuration["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        # The labels that Kubernetes adds. The service stands in for HAProxy, too.
        job["static_configs"] = [{"targets": [address], "labels": {"namespace": "n", "pod": job["job_name"]}}]
    return configuration


def _address(log: Path) -> str:
    """The address that Prometheus prints in its log."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        text = log.read_text()
        if found := re.search(r'"?Listening on"?.*address=(127\.0\.0\.1:[1-9]\d*)', text):
            return found[1]
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
