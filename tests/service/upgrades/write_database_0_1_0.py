"""Writes database-0.1.0.json. Run it in a checkout of version 0.1.0 (commit f0abc5a), whose code it imports:

    git worktree add ../v0.1.0 f0abc5a
    cd ../v0.1.0 && python .../tests/service/upgrades/write_database_0_1_0.py database-0.1.0.json

The service of 0.1.0 creates a cell, appends to it, deletes from it, and sets its retention and its model policy. The
file then has every file of the database directory, and every key of a Redis that got the same versions.
"""

import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import redis

sys.path.insert(0, ".")  # the checkout of 0.1.0

from service.keys import changing, make_key
from tests.service.operators.wire import DESCRIPTION, sent

from reference_db import DirectoryStore, Fingerprints, open_store, read_contents
from service.app import create_app
from service.settings import Settings
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS, write_tiny_artifact

FINGERPRINTS, APPENDED, DELETED = 60, 12, 3
PORT = 16379


def fingerprints(n: int, seed: int) -> Fingerprints:
    random = np.random.default_rng(seed)
    csi = 1e-5 * random.uniform(0.5, 1, (n, ANTENNAS, SUBCARRIERS)).astype(np.complex64)
    positions = random.uniform((20, -20), (60, 20), (n, 2)).astype(np.float32)
    return Fingerprints(csi, positions, 1.76e9 + np.arange(n, dtype=np.float64), np.full(n, 0.05, np.float32))


async def fill(settings: Settings) -> bytes:
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        key = {"Authorization": f"Bearer {KEY}"}
        client.headers.update(key)

        def check(response: httpx.Response) -> httpx.Response:
            assert response.is_success, response.text
            return response

        created = {"cell": DESCRIPTION, "fingerprints": sent(fingerprints(FINGERPRINTS, 1))}
        check(await client.put("/cells/c", json=created))
        more = sent(fingerprints(APPENDED, 2))
        check(
            await client.post("/cells/c/fingerprints", json={"fingerprints": more} if isinstance(more, list) else more)
        )
        store = DirectoryStore(settings.database_directory)
        ids = read_contents(store, store.current("c")).ids[:DELETED]
        ids = [f"{one:016x}" for one in ids.tolist()]
        check(await client.post("/cells/c/fingerprints/delete", json={"ids": ids}))
        check(await client.put("/cells/c/retention", json={"maxAgeS": 1e9}))
        check(await client.put("/cells/c/model", json={"policy": "mateformer"}))
        return check(await client.get("/cells/c/export")).content


def dump_redis(store: DirectoryStore) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", str(PORT), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            other = open_store(f"redis://127.0.0.1:{PORT}")
            for number in range(1, store.current("c").number + 1):
                manifest = store.manifest("c", number)
                known = set() if number == 1 else {s.digest for s in store.manifest("c", number - 1).segments}
                new = [bytes(store.get_segment("c", s.digest)) for s in manifest.segments if s.digest not in known]
                other.publish(manifest, new, manifest.parent)
            client = redis.Redis(port=PORT)
            return {key.decode(): dump_key(client, key) for key in sorted(client.keys())}
        finally:
            server.terminate()
            server.wait()


def dump_key(client: redis.Redis, key: bytes) -> dict[str, object]:
    kind = client.type(key).decode()
    if kind == "string":
        value = encode(client.get(key))
    elif kind == "hash":
        value = {name.decode(): encode(one) for name, one in client.hgetall(key).items()}
    elif kind == "set":
        value = sorted(map(encode, client.smembers(key)))
    else:
        value = [
            [entry.decode(), {k.decode(): encode(v) for k, v in fields.items()}] for entry, fields in client.xrange(key)
        ]
    return {"type": kind, "value": value}


def encode(content: bytes) -> str:
    """Text as it is, other bytes as base64 after a mark."""
    try:
        text = content.decode()
        if text.isprintable() or text.startswith("{") or "\n{" in text:
            return text
    except UnicodeDecodeError:
        pass
    return "base64:" + base64.b64encode(content).decode()


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "artifact").mkdir()
        artifact = write_tiny_artifact(root / "artifact")
        KEY, record = make_key("operators", ("locate", "operate", "read"), None, datetime.now(UTC))
        with changing(root / "keys.json") as keys:
            keys.append(record)
        export = asyncio.run(
            fill(
                Settings(
                    artifact_directory=root / "artifact",
                    database_directory=root / "database",
                    keys_file=root / "keys.json",
                    inference_threads=1,
                    calibration_samples=30,
                    calibration_sigmas_m=(1.0,),
                )
            )
        )
        files = {
            path.relative_to(root / "database").as_posix(): encode(path.read_bytes())
            for path in sorted((root / "database").rglob("*"))
            if path.is_file()
        }
        written = {
            "version": "0.1.0",
            "directory": files,
            "redis": dump_redis(DirectoryStore(root / "database")),
            "export": encode(export),
            "keys": (root / "keys.json").read_text(),
            "key": KEY,
            "artifacts": {
                "mateformer": (root / "artifact" / "artifact.json").read_text(),
                "scadf-moe": Path("models/artifacts/scadf-moe/artifact.json").read_text(),
            },
        }
    segments = {
        path.rpartition("/")[2].partition(".")[0]: one
        for path, one in written["directory"].items()
        if path.endswith(".safetensors")
    }
    for path in written["directory"]:
        if path.endswith(".safetensors"):
            written["directory"][path] = None
    for name, key in written["redis"].items():
        if ":segment:" in name:
            assert key["value"] == segments[name.rpartition(":")[2]]
            key["value"] = None
    written["segments"] = segments
    target.write_text(json.dumps(written, indent=1))
    print(target.stat().st_size, list(files))
