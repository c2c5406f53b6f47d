"""The Redis store when Redis fails: it stops, restarts, loses replies or refuses writes."""

import gc
from collections.abc import Callable, Iterator

import pytest

from reference_db import (
    Cell,
    CorruptManifest,
    Manifest,
    Origin,
    StoreFull,
    StoreUnavailable,
    Update,
    VersionConflict,
    read_contents,
    replace_cell,
    set_model_policy,
)
from reference_db.stores.redis import RedisStore
from tests.redis_servers import RedisCluster, RedisServer, RedisServers, empty, wait_until
from tests.reference_db.killed_writers import leftovers
from tests.reference_db.script_proxy import Fate, ScriptProxy


@pytest.fixture
def proxied(server: RedisServer) -> Iterator[tuple[ScriptProxy, RedisStore]]:
    with ScriptProxy(server.port) as proxy:
        store = RedisStore(proxy.url, timeout_s=3)
        yield proxy, store
        store.close()


def _publish(store: RedisStore, update: Update) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent)
    return update.manifest


def test_a_store_works_again_after_redis_restarts(
    servers: RedisServers, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store, other = open_redis(servers.url), open_redis(servers.url)
    first = _publish(store, versions[0])
    cell_id, digest = first.cell.cell_id, first.segments[0].digest
    assert store.changed(0) == set()
    _publish(other, versions[1])
    servers.kill()
    try:
        late = open_redis(servers.url)  # opened while Redis is down
        for ask in (
            late.cells,
            store.cells,
            lambda: store.current(cell_id),
            lambda: store.newest(cell_id),
            lambda: store.manifest(cell_id, 1),
            lambda: store.numbers(cell_id),
            lambda: store.get_segment(cell_id, digest),
            lambda: store.changed(60),
            lambda: _publish(store, versions[2]),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
    finally:
        servers.start()
    for one in (store, late):
        assert one.current(cell_id) == versions[1].manifest
        assert len(read_contents(one, versions[1].manifest)) == 15
    assert store.changed(0) == {cell_id}  # published before Redis was killed
    _publish(store, versions[2])
    assert late.numbers(cell_id) == [1, 2, 3]
    assert leftovers(servers.url, store) == set()


def test_a_request_times_out_when_redis_does_not_answer(server: RedisServer, versions: list[Update]) -> None:
    store = RedisStore(server.url, timeout_s=0.2)
    cell_id = versions[0].manifest.cell.cell_id

    def answers() -> bool:
        try:
            return store.newest(cell_id) is None
        except StoreUnavailable:
            return False

    wait_until(answers, "Redis does not answer")
    server.freeze()
    try:
        with pytest.raises(StoreUnavailable):
            store.current(cell_id)
        with pytest.raises(StoreUnavailable):
            _publish(store, versions[0])
    finally:
        server.thaw()
    wait_until(answers, "Redis does not answer again")
    store.close()


def test_a_read_only_redis_still_serves_reads(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store = open_redis(server.url)
    first = _publish(store, versions[0])
    with server.client() as client:
        for forbid, allow in (
            (("CONFIG SET", "maxmemory", 1), ("CONFIG SET", "maxmemory", 0)),
            (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
        ):
            client.execute_command(*forbid)
            try:
                with pytest.raises(StoreUnavailable):
                    _publish(store, versions[1])
                assert store.current(first.cell.cell_id) == first
            finally:
                client.execute_command(*allow)
    assert _publish(store, versions[1]).digest == store.newest(first.cell.cell_id)


def test_only_drafts_expire(
    servers: RedisServers, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store = open_redis(servers.url)
    for update in versions:
        _publish(store, update)
    assert leftovers(servers.url, store) == set()
    for node in getattr(servers, "nodes", [servers]):
        with node.client() as client:
            assert {client.ttl(key) for key in client.scan_iter()} <= {-1}


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.CONNECTION_LOST])
def test_a_publish_whose_reply_was_lost_is_found_to_have_succeeded(
    proxied: tuple[ScriptProxy, RedisStore], versions: list[Update], fate: Fate
) -> None:
    proxy, store = proxied
    _publish(store, versions[0])
    proxy.meet(fate)
    second = _publish(store, versions[1])
    assert store.current(second.cell.cell_id) == second
    assert _publish(store, versions[2]).number == 3


def test_a_publish_that_was_lost_is_not_acknowledged(
    proxied: tuple[ScriptProxy, RedisStore], versions: list[Update]
) -> None:
    proxy, store = proxied
    first = _publish(store, versions[0])
    proxy.meet(Fate.REQUEST_LOST)
    with pytest.raises(StoreUnavailable):
        _publish(store, versions[1])
    assert store.current(first.cell.cell_id) == first
    assert _publish(store, versions[1]).number == 2


def test_a_writer_overtaken_while_publishing_gets_a_conflict(
    proxied: tuple[ScriptProxy, RedisStore],
    server: RedisServer,
    versions: list[Update],
    open_redis: Callable[[str], RedisStore],
) -> None:
    proxy, store = proxied
    first = _publish(store, versions[0])
    faster = open_redis(server.url)
    proxy.meet(Fate.PASSED_ON, lambda: _publish(faster, versions[1]))
    with pytest.raises(VersionConflict) as caught:
        _publish(store, versions[1])
    assert (caught.value.expected, caught.value.current) == (first.digest, versions[1].manifest.digest)
    assert leftovers(server.url, store) == set()


def test_a_publish_changes_nothing_if_redis_dropped_its_drafts_or_is_full(
    proxied: tuple[ScriptProxy, RedisStore], server: RedisServer, versions: list[Update]
) -> None:
    proxy, store = proxied
    first = _publish(store, versions[0])

    def drop_drafts() -> None:
        with server.client() as client:
            assert client.delete(*client.scan_iter("*:draft:*")) == 1

    proxy.meet(Fate.PASSED_ON, drop_drafts)
    with pytest.raises(StoreUnavailable, match="dropped"):
        _publish(store, versions[1])
    assert leftovers(server.url, store) == set()

    with server.client() as client:
        proxy.meet(Fate.PASSED_ON, lambda: client.config_set("maxmemory", 1))
        with pytest.raises(StoreFull):
            _publish(store, versions[1])
        client.config_set("maxmemory", 0)
    assert leftovers(server.url, store) == set()
    assert store.numbers(first.cell.cell_id) == [1]
    assert store.current(first.cell.cell_id) == first


def test_damage_in_redis_is_detected(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update]
) -> None:
    store = open_redis(server.url)
    for update in versions[:2]:
        _publish(store, update)
    cell_id = versions[0].manifest.cell.cell_id
    pointer, manifests = f"fingerpost:{{{cell_id}}}:current", f"fingerpost:{{{cell_id}}}:manifests"
    with server.client() as client:
        one, two, current = client.hget(manifests, "1"), client.hget(manifests, "2"), client.get(pointer)
        assert one is not None
        assert two is not None
        assert current is not None
        for damaged, complaint in (
            (two.replace(b'"number":2', b'"number":3'), "hashes to"),
            (b"", "hashes to"),
            (b"\xff" + two, "hashes to"),
            (one, "manifest of another version"),
        ):
            client.hset(manifests, "2", damaged)
            with pytest.raises(CorruptManifest, match=complaint):
                store.current(cell_id)
        client.hdel(manifests, "2")
        with pytest.raises(CorruptManifest, match="manifest of version 2 is missing"):
            store.current(cell_id)
        client.hset(manifests, "2", two)
        client.set(pointer, current.replace(versions[1].manifest.digest.encode(), b"0" * 64))
        with pytest.raises(CorruptManifest, match="not the published one"):
            store.current(cell_id)
        client.set(pointer, b"../../secret")
        for ask in (store.current, store.newest, lambda _: _publish(store, versions[2])):
            with pytest.raises(CorruptManifest, match="pointer"):
                ask(cell_id)
        client.set(pointer, current)
    assert store.current(cell_id) == versions[1].manifest


def test_keys_that_are_not_the_stores_own_damage_at_most_one_cell(
    server: RedisServer, open_redis: Callable[[str], RedisStore], versions: list[Update], cell: Cell, origin: Origin
) -> None:
    store, damaged = open_redis(server.url), versions[0].manifest
    for name in ("a", "b"):
        _publish(store, replace_cell(None, cell.model_copy(update={"cell_id": name}), None, origin))
    _publish(store, versions[0])
    prefix, digest = f"fingerpost:{{{damaged.cell.cell_id}}}:", damaged.segments[0].digest
    with server.client() as client:
        client.sadd("fingerpost:cells", b"\xff", "", "../elsewhere", "never-published")
        client.hset(prefix + "manifests", "nine", "x")
        assert store.numbers(damaged.cell.cell_id) == [1]
        for name, ask in (
            (f"segment:{digest}", lambda: store.get_segment(damaged.cell.cell_id, digest)),
            ("manifests", lambda: store.current(damaged.cell.cell_id)),
            ("current", lambda: store.newest(damaged.cell.cell_id)),
        ):
            client.delete(prefix + name)
            client.rpush(prefix + name, "a list")
            with pytest.raises(CorruptManifest, match="another type"):
                ask()
    assert store.cells() == ["a", "b", damaged.cell.cell_id]
    assert store.current("a") is not None


def test_a_dead_master_hides_no_cell_of_the_others(
    redis_cluster: RedisCluster, open_redis: Callable[[str], RedisStore], cell: Cell, origin: Origin
) -> None:
    empty(redis_cluster)
    store = open_redis(redis_cluster.url)
    names = [f"cell-{number}" for number in range(12)]
    for name in names:
        _publish(store, replace_cell(None, cell.model_copy(update={"cell_id": name}), None, origin))
    listing = next(node for node in redis_cluster.nodes if has_key(node, "fingerpost:cells"))
    dead = next(node for node in redis_cluster.nodes if node is not listing)
    lost = {name for name in names if has_key(dead, f"fingerpost:{{{name}}}:current")}
    assert lost
    dead.kill()
    try:
        for one in (store, open_redis(redis_cluster.url)):
            assert one.cells() == sorted(names)
            for name in names:
                if name in lost:
                    with pytest.raises(StoreUnavailable):
                        one.newest(name)
                else:
                    assert one.newest(name) is not None
    finally:
        dead.start()
        redis_cluster.wait_until_whole()
    assert store.cells() == sorted(names)


# redis-py leaves connections of nodes that it has dropped to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_the_cells_of_living_masters_are_found_without_the_list_of_all_cells(
    redis_cluster: RedisCluster, open_redis: Callable[[str], RedisStore], cell: Cell, origin: Origin
) -> None:
    empty(redis_cluster)
    store = open_redis(redis_cluster.url)
    names = [f"cell-{number}" for number in range(12)]

    def created(name: str) -> Update:
        return replace_cell(None, cell.model_copy(update={"cell_id": name}), None, origin)

    for name in names:
        _publish(store, created(name))
    names.sort()
    assert (store.cells(), store.misses_cells()) == (names, False)
    dead = next(node for node in redis_cluster.nodes if has_key(node, "fingerpost:cells"))
    sound = [name for name in names if not has_key(dead, f"fingerpost:{{{name}}}:current")]
    assert 0 < len(sound) < len(names)
    removed, kept, late = sound[0], sound[1], open_redis(redis_cluster.url)
    dead.kill()
    try:
        for node in redis_cluster.nodes:
            if node is not dead:
                with node.client() as client:
                    client.script_flush()  # scripts must not need the dead master to load again
        store.remove_cell(removed, None)
        assert store.cells() == [name for name in names if name != removed]
        assert late.cells() == sound[1:]  # never heard of the others
        assert store.misses_cells()
        assert late.misses_cells()
        late.check()
        before = store.current(kept)
        assert before is not None
        _publish(store, set_model_policy(read_contents(store, before), "scadf-moe", origin))
        assert late.numbers(kept) == [1, 2]
        with pytest.raises(StoreUnavailable):  # it would be in no list
            _publish(store, created(removed))
    finally:
        dead.start()
        redis_cluster.wait_until_whole()
    for one in (store, late):
        assert one.cells() == [name for name in names if name != removed]
        assert not one.misses_cells()
        one.close()
    gc.collect()


def has_key(node: RedisServer, key: str) -> bool:
    with node.client() as client:
        return key.encode() in client.scan_iter()
