import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.auth.key_store import KeyStore, TokenBucket
from service.auth.keys import KeysUnreadable, Scope, edit_keys
from service.background import Background, Job
from service.errors import KeyMissing, KeyUnknown, RateExceeded, ScopeMissing, ServiceError
from service.telemetry.metrics import Metrics
from tests.service.tiny_service import added_key

DEADLINE_S = 60.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def refusal(store: KeyStore, authorization: str | None, needed: Scope = "locate") -> type[ServiceError] | None:
    try:
        store.authorize(None if authorization is None else authorization.encode(), needed)
    except ServiceError as error:
        return type(error)
    return None


@asynccontextmanager
async def followed(store: KeyStore) -> AsyncIterator[None]:
    background = Background(Metrics().background)
    background.start(Job("keys", store.follow, 0.001))
    try:
        yield
    finally:
        await background.stop()


async def becomes(store: KeyStore, key: str, expected: type[ServiceError] | None) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while refusal(store, f"Bearer {key}") is not expected:
            await asyncio.sleep(0.001)


def test_a_key_opens_its_own_scopes_only(file: Path) -> None:
    key = added_key(file, ["locate", "read"])
    store = KeyStore(file)
    assert refusal(store, f"Bearer {key}") is None
    assert refusal(store, f"bearer  {key} ", "read") is None
    assert refusal(store, f"Bearer {key}", "operate") is ScopeMissing


def test_wrong_and_malformed_keys_are_refused(file: Path) -> None:
    key, other = added_key(file, ["locate"]), added_key(file, ["locate"])
    store = KeyStore(file)
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
    assert {refusal(store, f"Bearer {one}") for one in wrong} == {KeyUnknown}
    assert {refusal(store, one) for one in (key, f"Basic {key}", "Bearer", "")} == {KeyUnknown}
    assert refusal(store, None) is KeyMissing


def test_each_key_has_its_own_rate_limit(file: Path) -> None:
    slow, fast = added_key(file, ["locate"], rate=0.001), added_key(file, ["locate"])
    store = KeyStore(file)
    assert [refusal(store, f"Bearer {slow}") for _ in range(2)] == [None, RateExceeded]
    assert [refusal(store, f"Bearer {fast}") for _ in range(20)] == [None] * 20
    with pytest.raises(RateExceeded) as refused:
        store.authorize(f"Bearer {slow}".encode(), "locate")
    assert 900 < refused.value.retry_after_s <= 1000


def test_a_key_without_the_scope_costs_no_token(file: Path) -> None:
    key = added_key(file, ["locate"], rate=0.001)
    store = KeyStore(file)
    assert refusal(store, f"Bearer {key}", "operate") is ScopeMissing
    assert refusal(store, f"Bearer {key}") is None


@pytest.mark.anyio
async def test_added_and_revoked_keys_take_effect_and_others_keep_their_tokens(
    file: Path,
) -> None:
    old, slow = added_key(file, ["locate"]), added_key(file, ["locate"], rate=0.001)
    store = KeyStore(file)
    assert refusal(store, f"Bearer {slow}") is None
    async with followed(store):
        new = added_key(file, ["locate"])
        await becomes(store, new, None)
        assert refusal(store, f"Bearer {old}") is None
        with edit_keys(file) as keys:
            keys[:] = [key for key in keys if key.id != old[3:15]]
        await becomes(store, old, KeyUnknown)
        assert refusal(store, f"Bearer {new}") is None
        assert refusal(store, f"Bearer {slow}") is RateExceeded


@pytest.mark.anyio
async def test_the_last_keys_stay_in_force_while_the_file_is_damaged_or_missing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = added_key(file, ["locate"])
    store, whole = KeyStore(file), file.read_bytes()
    caplog.set_level(logging.INFO, "fingerpost")

    async def told(word: str, times: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while caplog.text.count(word) < times:
                await asyncio.sleep(0.001)

    def write(content: bytes) -> None:
        """Replaces the file at once: the store never reads a file that is half written."""
        written = file.with_suffix(".new")
        written.write_bytes(content)
        written.replace(file)

    async with followed(store):
        write(whole[:50])
        await told("the last keys stay in force", 1)
        assert refusal(store, f"Bearer {key}") is None
        file.unlink()
        await told("No such file", 1)
        assert refusal(store, f"Bearer {key}") is None
        write(whole)
        await told("1 keys in force", 1)
        await asyncio.sleep(0.05)
    assert refusal(store, f"Bearer {key}") is None
    assert caplog.text.count("the last keys stay in force") == 2
    assert key[16:] not in caplog.text


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_missing_or_damaged_file_at_the_start_raises(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeysUnreadable):
        KeyStore(file)


def test_a_bucket_allows_one_seconds_worth_at_once_then_the_rate() -> None:
    bucket = TokenBucket(4.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(100.0) == pytest.approx(0.25)
    assert bucket.take(100.2) == pytest.approx(0.05)
    assert bucket.take(100.25) == 0.0
    assert bucket.take(100.25) == pytest.approx(0.25)


def test_a_bucket_saves_at_most_one_seconds_worth() -> None:
    bucket = TokenBucket(2.0, now=0.0)
    assert [bucket.take(1e6) > 0 for _ in range(3)] == [False, False, True]


def test_a_bucket_below_one_a_second_still_allows_single_requests() -> None:
    bucket = TokenBucket(0.1, now=0.0)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(1.0) == pytest.approx(9.0)
    assert bucket.take(10.5) == 0.0


def test_an_overdrawn_bucket_delays_the_next_request() -> None:
    bucket = TokenBucket(10.0, now=0.0)
    assert bucket.take(0.0) == 0.0
    bucket.charge(29)
    assert bucket.take(0.0) == pytest.approx(2.1)
    assert bucket.take(2.2) == 0.0


@pytest.mark.anyio
async def test_a_key_revoked_in_place_goes_even_if_size_and_time_of_the_file_stay(file: Path) -> None:
    kept, revoked = added_key(file, ["locate"]), added_key(file, ["locate"])
    copy, before = file.with_suffix(".copy"), os.stat(file)
    copy.write_bytes(file.read_bytes())
    with edit_keys(copy) as keys:
        keys.pop()
    store = KeyStore(file)
    file.write_bytes(copy.read_bytes().ljust(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    async with followed(store):
        await becomes(store, revoked, KeyUnknown)
        await becomes(store, kept, None)
