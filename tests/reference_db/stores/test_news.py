"""The news of a store: readers get every published version, also after delays and lost connections."""

import threading
from collections.abc import Callable

from reference_db import (
    Manifest,
    News,
    Origin,
    Update,
    replace_cell,
)
from reference_db.stores.redis import RedisStore
from tests.redis_servers import GUARD_S, RedisServer, RedisServers, keys_of, wait_until


def _publish(store: RedisStore, update: Update) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent)
    return update.manifest


def _heard(store: RedisStore) -> set[str]:
    """Waits for the first news and returns everything announced so far."""
    heard: set[str] = set()
    wait_until(lambda: bool(heard.update(store.changed(1)) or heard), "nothing is heard")
    while more := store.changed(0):
        heard |= more
    return heard


def test_every_reader_gets_all_news_at_its_own_pace(
    servers: RedisServers, open_redis: Callable[[str], RedisStore], cell, origin: Origin
) -> None:
    writer, prompt, slow = (open_redis(servers.url) for _ in range(3))
    assert isinstance(prompt, News)
    updates = {name: replace_cell(None, cell.model_copy(update={"cell_id": name}), None, origin) for name in "abc"}
    _publish(writer, updates["a"])
    assert prompt.changed(0) == slow.changed(0) == set()  # earlier versions are not announced
    for name in ("b", "c"):
        _publish(writer, updates[name])
        assert prompt.changed(60) == {name}
    assert slow.changed(60) == {"b", "c"}
    assert prompt.changed(0) == slow.changed(0) == set()
    assert "fingerpost:versions" in keys_of(servers)


def test_a_waiting_reader_is_notified(
    servers: RedisServers, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    reader, heard = open_redis(servers.url), []
    reader.changed(0)
    listener = threading.Thread(target=lambda: heard.append(_heard(reader)))
    listener.start()
    manifest = _publish(open_redis(servers.url), versions[0])
    listener.join(GUARD_S)
    assert heard == [{manifest.cell.cell_id}]


def test_a_reader_that_missed_trimmed_news_continues(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store = open_redis(server.url)
    store.changed(0)
    for update in versions:
        _publish(store, update)
    with server.client() as client:
        client.xtrim("fingerpost:versions", maxlen=0, approximate=False)
        assert store.changed(0) == set()
        client.xadd("fingerpost:versions", {"cell": "another", "number": 1})
    assert _heard(store) == {"another"}


def test_news_of_a_new_stream_with_an_earlier_clock_are_read(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store = open_redis(server.url)
    _publish(store, versions[0])
    store.changed(0)
    with server.client() as client:
        client.delete("fingerpost:versions")
        client.xadd("fingerpost:versions", {"cell": "another", "number": 1}, id="1-1")
    assert _heard(store) == {"another"}


def test_malformed_announcements_do_not_stop_the_listening(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    reader = open_redis(server.url)
    reader.changed(0)
    malformed: list[dict[bytes | str, bytes | str]] = [
        {"foo": "bar"},
        {"cell": ""},
        {"cell": b"\xff\xfe", "number": "1"},
        {"cell": "../elsewhere", "number": "1"},
        {"cell": "a}b{c", "number": "1"},
        {"cell": "x" * 65},
        {"number": "nine"},
    ]
    with server.client() as client:
        for fields in malformed:
            client.xadd("fingerpost:versions", fields)  # type: ignore[arg-type]
        client.xadd("fingerpost:versions", {"cell": "good"})
    assert reader.changed(60) == {"good"}
    with server.client() as client:
        for fields in malformed:
            client.xadd("fingerpost:versions", fields)  # type: ignore[arg-type]
    assert reader.changed(60) == set()
    assert reader.changed(0) == set()
    manifest = _publish(open_redis(server.url), versions[0])
    assert _heard(reader) == {manifest.cell.cell_id}
