import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from service.auth import key_store as key_ring
from service.auth.key_store import KeyStore
from service.auth.keys import KeysUnreadable, Scope, changing
from service.errors import KeyMissing, KeyUnknown, RateExceeded, ScopeMissing, ServiceError
from tests.service.tiny_service import added_key

DEADLINE_S = 60.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def refusal(ring: KeyStore, authorization: str | None, needed: Scope = "locate") -> type[ServiceError] | None:
    try:
        ring.holder(None if authorization is None else authorization.encode(), needed)
    except ServiceError as error:
        return type(error)
    return None


@asynccontextmanager
async def followed(ring: KeyStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(key_ring, "_PERIOD_S", 0.001)
    task = asyncio.create_task(ring.follow())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def becomes(ring: KeyStore, key: str, expected: type[ServiceError] | None) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while refusal(ring, f"Bearer {key}") is not expected:
            await asyncio.sleep(0.001)


def test_a_key_is_good_for_its_scopes_alone(file: Path) -> None:
    key = added_key(file, ["locate", "read"])
    ring = KeyStore(file)
    assert refusal(ring, f"Bearer {key}") is None
    assert refusal(ring, f"bearer  {key} ", "read") is None
    assert refusal(ring, f"Bearer {key}", "operate") is ScopeMissing


def test_what_is_no_key_of_the_file(file: Path) -> None:
    key, other = added_key(file, ["locate"]), added_key(file, ["locate"])
    ring = KeyStore(file)
    wrong = [
        key[:-1],
        key + "A",
        key[:-1] + ("A" if key[-1] != "A" else "B"),
        key[:15] + other[15:],
        key.replace("fp_", "FP_"),
        key[:15],
        "",
        "x" * 10_000,
        "\x00",
    ]
    assert {refusal(ring, f"Bearer {one}") for one in wrong} == {KeyUnknown}
    assert {refusal(ring, one) for one in (key, f"Basic {key}", "Bearer", "")} == {KeyUnknown}
    assert refusal(ring, None) is KeyMissing


def test_each_key_has_tokens_of_its_own(file: Path) -> None:
    slow, fast = added_key(file, ["locate"], rate=0.001), added_key(file, ["locate"])
    ring = KeyStore(file)
    assert [refusal(ring, f"Bearer {slow}") for _ in range(2)] == [None, RateExceeded]
    assert [refusal(ring, f"Bearer {fast}") for _ in range(20)] == [None] * 20
    with pytest.raises(RateExceeded) as refused:
        ring.holder(f"Bearer {slow}".encode(), "locate")
    assert 900 < refused.value.retry_after_s <= 1000


def test_a_key_without_the_scope_costs_no_token(file: Path) -> None:
    key = added_key(file, ["locate"], rate=0.001)
    ring = KeyStore(file)
    assert refusal(ring, f"Bearer {key}", "operate") is ScopeMissing
    assert refusal(ring, f"Bearer {key}") is None


@pytest.mark.anyio
async def test_keys_come_and_go_while_it_runs_and_the_others_keep_their_tokens(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, slow = added_key(file, ["locate"]), added_key(file, ["locate"], rate=0.001)
    ring = KeyStore(file)
    assert refusal(ring, f"Bearer {slow}") is None
    async with followed(ring, monkeypatch):
        new = added_key(file, ["locate"])
        await becomes(ring, new, None)
        assert refusal(ring, f"Bearer {old}") is None
        with changing(file) as keys:
            keys[:] = [key for key in keys if key.id != old[3:15]]
        await becomes(ring, old, KeyUnknown)
        assert refusal(ring, f"Bearer {new}") is None
        assert refusal(ring, f"Bearer {slow}") is RateExceeded


@pytest.mark.anyio
async def test_while_the_file_is_damaged_or_gone_the_keys_before_stay_in_force(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = added_key(file, ["locate"])
    ring, whole = KeyStore(file), file.read_bytes()
    caplog.set_level(logging.INFO, "fingerpost.keys")

    async def told(word: str, times: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while caplog.text.count(word) < times:
                await asyncio.sleep(0.001)

    async with followed(ring, monkeypatch):
        file.write_bytes(whole[:50])
        await told("the keys in force stay", 1)
        assert refusal(ring, f"Bearer {key}") is None
        file.unlink()
        await told("No such file", 1)
        assert refusal(ring, f"Bearer {key}") is None
        file.write_bytes(whole)
        await told("1 keys in force", 1)
        await asyncio.sleep(0.05)
    assert refusal(ring, f"Bearer {key}") is None
    assert caplog.text.count("the keys in force stay") == 2
    assert key[16:] not in caplog.text


@pytest.mark.parametrize("content", [None, b"{"])
def test_without_keys_to_begin_with_nothing_starts(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeysUnreadable):
        KeyStore(file)
