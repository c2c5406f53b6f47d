"""When keys were last used, and what `GET /keys` tells of them."""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fingerpost import AsyncClient, Client, KeyList, Refused
from reference_db.errors import StoreForbidden
from service.artifacts.directory_installation import DirectoryInstallation
from service.auth.key_store import KeyStore
from service.auth.key_uses import KeyUses
from service.auth.keys import read_keys
from service.commands.cli import app
from service.commands.keys import _print_keys_of_service
from service.errors import ServiceError
from tests.service.running import running
from tests.service.serving import serving
from tests.service.tiny_service import added_key, bearing, make_tiny_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def use(store: KeyStore, key: str) -> None:
    store.authorize(f"Bearer {key}".encode(), "locate")


@pytest.mark.anyio
async def test_replicas_know_of_each_others_uses(file: Path, tmp_path: Path) -> None:
    used, unused = added_key(file, ["locate"]), added_key(file, ["locate"])
    one, other = KeyStore(file), KeyStore(file)
    here, there = (KeyUses(store, DirectoryInstallation(tmp_path)) for store in (one, other))
    use(one, used)
    ids = [record.id for record in read_keys(file)]
    assert here.last(ids[0]) == pytest.approx(time.time(), abs=60)
    assert there.last(ids[0]) is None
    await here.exchange()
    await there.exchange()
    assert there.last(ids[0]) == here.last(ids[0])
    assert there.last(ids[1]) is None
    assert (here.since, there.since) == (None, None)
    assert unused not in (tmp_path / "installation" / "key-uses.json").read_text()
    again = KeyUses(KeyStore(file), DirectoryInstallation(tmp_path))  # a replica that has started anew
    await again.exchange()
    assert again.last(ids[0]) == here.last(ids[0])


class ReadOnly:
    """The record of a replica that may only read."""

    def merge_key_uses(self, uses: Mapping[str, int]) -> dict[str, int]:
        raise StoreForbidden("the directory may not be written to")


@pytest.mark.anyio
async def test_a_replica_that_may_not_write_says_since_when_it_counts(file: Path) -> None:
    key = added_key(file, ["locate"])
    store = KeyStore(file)
    uses = KeyUses(store, ReadOnly())
    use(store, key)
    await uses.exchange()
    assert uses.since == pytest.approx(time.time(), abs=60)
    assert uses.last(read_keys(file)[0].id) is not None


def test_a_key_that_is_refused_for_its_scope_was_used_and_a_forged_one_was_not(file: Path) -> None:
    key, other = added_key(file, ["read"]), added_key(file, ["read"])
    store = KeyStore(file)
    forged = other[:-1] + ("a" if other[-1] != "a" else "b")
    for wrong in (key, forged):
        with pytest.raises(ServiceError):
            use(store, wrong)
    assert list(store.used) == [read_keys(file)[0].id]


@pytest.mark.anyio
async def test_operators_see_the_keys_in_force_and_neither_keys_nor_hashes(file: Path, tmp_path: Path) -> None:
    back_end, operator = added_key(file, ["locate"], rate=50.0), added_key(file, ["operate"])
    async with running(make_tiny_settings(tmp_path, keys_file=file)) as client:
        refused = await client.get("/keys", headers=bearing(back_end))
        assert (refused.status_code, refused.json()["cause"]) == (403, "SCOPE_MISSING")
        answer = await client.get("/keys", headers=bearing(operator))
    told = answer.json()
    first, second = told["keys"]
    assert told["required"] is True
    assert (first["scopes"], first["rate"], second["scopes"]) == (["locate"], 50.0, ["operate"])
    assert "rate" not in second
    for one in (first, second):  # both keys were sent just now
        assert datetime.fromisoformat(one["lastUsed"]).timestamp() == pytest.approx(time.time(), abs=60)
    for record, key in zip(read_keys(file), (back_end, operator), strict=True):
        assert record.sha256 not in answer.text
        assert key not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_the_client_and_the_command_line_list_the_keys_of_a_running_service(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused, operator = added_key(file, ["locate", "read"], rate=50.0), added_key(file, ["operate"])
    first, second = (record.id for record in read_keys(file))

    async def list_asynchronously(url: str) -> KeyList:
        async with AsyncClient(url, operator) as client:
            return await client.list_keys()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["keys", "list", *arguments], catch_exceptions=False)

    monkeypatch.setenv("COLUMNS", "120")
    with serving(make_tiny_settings(tmp_path, keys_file=file)) as url:
        with Client(url, operator) as client:
            listed = client.list_keys()
        assert [(key.id, key.scopes, key.rate) for key in listed.keys] == [
            (first, ["locate", "read"], 50),
            (second, ["operate"], None),
        ]
        assert listed.required
        assert [key.last_used is None for key in listed.keys] == [True, False]
        assert asyncio.run(list_asynchronously(url)).keys[0] == listed.keys[0]
        with Client(url, unused) as client, pytest.raises(Refused, match="SCOPE_MISSING"):
            client.list_keys()
        refused = run("--url", url)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "KEY_MISSING" in refused.stderr
        monkeypatch.setenv("FINGERPOST_KEY", operator)
        monkeypatch.setenv("FINGERPOST_KEYS_FILE", str(tmp_path / "another.json"))  # --url was typed
        rows = {line.split()[0]: line.split() for line in run("--url", url).stdout.splitlines() if line.strip()}
        told = json.loads(run("--url", url, "--json").stdout)
    later = datetime.fromisoformat(told["keys"][1]["lastUsed"])  # by this request
    assert " ".join(rows[second][-2:]) in [f"{one:%Y-%m-%d %H:%M}Z" for one in (listed.keys[1].last_used, later)]
    assert [one["id"] for one in told["keys"]] == [first, second]
    monkeypatch.delenv("FINGERPOST_KEYS_FILE")
    assert "give --file, or --url" in run().stderr
    both = run("--url", url, "--file", str(file))
    assert (both.exit_code, "not both" in both.stderr) == (2, True)
    monkeypatch.setenv("FINGERPOST_URL", url)  # where nothing answers now
    assert "last used" not in run("--file", str(file)).stdout
    assert "no answer from" in run().stderr


def test_uses_that_one_replica_alone_knows_are_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    key = {"id": "0123456789ab", "name": "bs", "scopes": ["read"], "createdAt": "2026-11-01T00:00:00Z"}
    _print_keys_of_service({"required": True, "keys": [key], "usesSince": "2026-11-30T13:05:00+01:00"})
    printed = capsys.readouterr().out
    assert "not known" in printed
    assert "only the uses at itself, since 2026-11-30 12:05Z" in printed
    _print_keys_of_service({"required": False, "keys": []})
    assert capsys.readouterr().out == "this service needs no keys\n"


@pytest.mark.anyio
async def test_a_service_without_keys_says_so(tmp_path: Path) -> None:
    async with running(make_tiny_settings(tmp_path)) as client:
        assert (await client.get("/keys")).json() == {"required": False, "keys": []}
