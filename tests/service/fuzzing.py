"""Requests that nobody in his senses would send, to a real service. In short form tests; ``make fuzz`` in long form.

``python -m tests.service.fuzzing --minutes 10`` says how many cases it tried, what statuses they got, and how much the
service's memory grew; it exits with 1 where one got a 5xx that is not on purpose, or hung, or memory grew.
"""

import argparse
import base64
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import psutil

from fingerpost import build_locate_body
from reference_db import DirectoryStore, import_fingerprints
from service.settings import Settings
from tests.service.plane_cell import USER, fingerprints_at, make_cell, street, users_at
from tests.service.serving import serving
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact
from tests.service.tiny_service import added_key

DEADLINE_S = 60.0
ON_PURPOSE = {"MAX_RESP_TIME_EXCEEDED", "NF_CONGESTION"}  # causes of a 5xx
GROWTH = 1.10  # of memory, in a long run
_HERE = Path(__file__).parent
_JSON, _MSGPACK = "application/json", "application/msgpack"

_ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 1e308, -1e308, 5e-324, 0.5, "", "a", "\x00", "é", "a" * 1000),
    *(b"", b"\xff" * 100, [], [[]], {}, {"": 0}, [0] * 1000, "2026-01-01T00:00:00Z", "plane\n", "../plane", "9" * 400),
]
_NAN = [float("nan"), float("inf"), float("-inf")]  # JSON has none


class Fuzzed(NamedTuple):
    url: str
    key: str
    process: psutil.Process


@contextmanager
def fuzzed_service() -> Iterator[Fuzzed]:
    """The shipped network, one that measures, and a small cell `plane`, behind keys."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        directory = Path(folder)
        import_fingerprints(
            DirectoryStore(directory / "database"), make_cell("plane"), fingerprints_at(street(100, 1)), {}, ORIGIN
        )
        contract = CONTRACT.model_copy(update={"antennas": (32,), "subcarriers": (32,)})
        settings = Settings(
            port=0,
            lwlm_artifact_directory=write_tiny_lwlm_artifact(directory / "lwlm", contract, doubts=False).directory,
            database_directory=directory / "database",
            keys_file=directory / "keys.json",
            body_limit_bytes=4 * 2**20,
            body_timeout_s=10.0,
            console_live=True,
            inference_threads=1,
            calibration_samples=20,
            calibration_sigmas_m=(1.0,),
            log_level="warning",
        )
        key = added_key(directory / "keys.json", ["locate", "operate", "read"])
        before = {child.pid for child in psutil.Process().children()}
        with serving(settings) as url:
            (process,) = [child for child in psutil.Process().children() if child.pid not in before]
            yield Fuzzed(url, key, process)


def mutated_bodies(seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Path, media type and body of requests that are good but for one to three places. For ever the same."""
    rng = random.Random(seed)
    while True:
        media_type = rng.choice([_JSON, _MSGPACK])
        users = [_user(rng, media_type) for _ in range(rng.choice([1, 1, 2, 5]))]
        path, body = ("/locate", users[0]) if len(users) == 1 else ("/locate/batch", {"items": users})
        damages = rng.choice([(_swapped,), (_swapped, _swapped), (_bitten,), (_swapped, _bitten, _bitten)])
        for damage in damages:
            if damage is _swapped:
                body = _swapped(rng, body, media_type)
        encode = msgspec.json.encode if media_type == _JSON else msgspec.msgpack.encode
        content = encode(body)
        for damage in damages:
            if damage is _bitten:
                content = _bitten(rng, content)
        yield path, media_type, content


def _user(rng: random.Random, media_type: str) -> dict[str, Any]:
    coarse = rng.choice(
        [None, {"x": 50.6, "y": 4.5, "hAccuracy": 1.0}, {"lat": 43.7731, "lon": 11.2566, "hAccuracy": 5}]
    )
    user = build_locate_body("plane", users_at(USER)[0], coarse)
    optional = {"timestamp": "2026-01-01T00:00:00Z", "hAccuracy": 2.0, "maxRespTime": 60, "requestId": "7"}
    optional |= {"confidence": 80, "supportedGADShapes": ["POINT"], "maxAge": 1e9}
    user |= {name: value for name, value in optional.items() if rng.random() < 0.3}
    user["csi"]["scale"] = rng.choice([1.0, 2.0, 1e-3])
    if media_type == _MSGPACK:
        user["csi"]["data"] = base64.b64decode(user["csi"]["data"])
    return user


def _swapped(rng: random.Random, value: Any, media_type: str) -> Any:
    """Something odd in the place of one value, of any depth; or a field more, or less."""
    odd = rng.choice(_ODD + (_NAN if media_type == _MSGPACK else []))
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        match rng.random():
            case chance if chance < 0.1:
                return {other: one for other, one in value.items() if other != name}
            case chance if chance < 0.2:
                return value | {name + rng.choice(["", "s", "\n"]): odd}
        return value | {name: _swapped(rng, value[name], media_type)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        row = rng.randrange(len(value))
        return [*value[:row], _swapped(rng, value[row], media_type), *value[row + 1 :]]
    return odd


def _bitten(rng: random.Random, content: bytes) -> bytes:
    """Bytes changed, cut off, doubled or put in."""
    at = rng.randrange(len(content) + 1)
    match rng.randrange(4):
        case 0:
            return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at + 1 :]
        case 1:
            return content[:at]
        case 2:
            return content[:at] + content[: rng.randrange(200)] + content[at:]
        case _:
            return content[:at] + rng.choice([b"[", b"{", b"\x91", b"\xdf\xff\xff\xff\xff", b'"']) * 2000 + content[at:]


def complaint(answer: httpx.Response) -> str | None:
    """What is wrong with an answer, whatever was asked."""
    if answer.status_code < 400:
        return None
    if answer.headers.get("content-type") != "application/problem+json":
        return f"{answer.status_code} is no problem"
    problem = answer.json()
    if answer.status_code >= 500 and problem["cause"] not in ON_PURPOSE:
        return f"{answer.status_code} {problem['cause']}"
    return None


def ask(client: httpx.Client, cases: Iterator[tuple[str, str, bytes]], count: int) -> tuple[Counter[int], list[str]]:
    """How many of the cases got which status; and complaints, each with its body as base64."""
    statuses: Counter[int] = Counter()
    complaints = []
    for _, (path, media_type, body) in zip(range(count), cases, strict=False):
        answer = client.post(path, content=body, headers={"Content-Type": media_type})
        statuses[answer.status_code] += 1
        if said := complaint(answer):
            complaints.append(f"{said}: POST {path} {media_type} {base64.b64encode(body).decode()}")
    return statuses, complaints


def schemathesis(service: Fuzzed, *options: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """All checks on all operations of the OpenAPI document."""
    command = [Path(sys.executable).with_name("st"), "--config-file", _HERE / "schemathesis.toml"]
    command += ["run", f"{service.url}/openapi.json", "-H", f"Authorization: Bearer {service.key}"]
    command += ["--request-timeout", str(DEADLINE_S), "--suppress-health-check", "all", "--no-color", *options]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks",
        "PYTHONPATH": os.pathsep.join([str(_HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    # Schemathesis keeps failures in its working directory and would try them again in the next run.
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            cwd=folder,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a real service what nobody in his senses would.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="random by default")
    options = parser.parse_args()
    print(f"fuzz: --seed {options.seed}", flush=True)
    half = 30 * options.minutes
    with fuzzed_service() as service:
        headers = {"Authorization": f"Bearer {service.key}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=DEADLINE_S) as client:
            cases, statuses, complaints = mutated_bodies(options.seed), Counter[int](), list[str]()
            ask(client, cases, 3000)  # until what is kept for good is there
            before, until = service.process.memory_info().rss, time.monotonic() + half
            while time.monotonic() < until:
                more, said = ask(client, cases, 1000)
                statuses += more
                complaints += said
            after = service.process.memory_info().rss
        done = schemathesis(service, "--seed", str(options.seed), "--max-time", str(int(half)), seconds=4 * half + 600)
        at_last = service.process.memory_info().rss
    print(done.stdout)
    print("\n".join(complaints[:20]))
    tried = re.search(r"(\d+) generated", done.stdout)
    print(f"fuzz: {statuses.total()} damaged bodies: {dict(sorted(statuses.items()))}, {len(complaints)} complaints")
    print(f"fuzz: {tried[1] if tried else 0} cases of schemathesis, exit status {done.returncode}")
    mib = [size / 2**20 for size in (before, after, at_last)]
    print(f"fuzz: memory {mib[0]:.0f} MiB, after the damaged bodies {mib[1]:.0f}, after schemathesis {mib[2]:.0f}")
    sys.exit(bool(complaints or done.returncode or after > GROWTH * before))


if __name__ == "__main__":
    main()
