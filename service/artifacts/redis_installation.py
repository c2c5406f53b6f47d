"""The state of an installation in the Redis of its reference database.

    fingerpost:active:<family>     token, space, the active artifact of a family
    fingerpost:families            set: the families that have an active artifact
    fingerpost:key-uses            hash: the id of an API key -> Unix second of its last use
    fingerpost:replicas            hash: name of a replica -> second until which its report holds, space, report

Redis's clock decides which reports hold, so the clocks of replicas may differ.
"""

from collections.abc import Mapping
from typing import cast

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import Client, RedisClient
from reference_db.stores.redis_script import RedisScript
from service.artifacts.installation import ActiveArtifact, Replica, read_active, read_replicas

_FAMILIES = "fingerpost:families"
_REPLICAS = "fingerpost:replicas"
_KEY_USES = "fingerpost:key-uses"
_TIMEOUT_S = 2.0

# KEYS: the record. ARGV: the expected token ('': none), the new token, the artifact.
_ACTIVATE = RedisScript("""
local record = redis.call('GET', KEYS[1])
local token = record and string.match(record, '^(%x+) ') or ''
if token == ARGV[2] then return 1 end
if token ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
""")

# KEYS: the hash. ARGV: name, seconds that the report holds, report.
_REPORT = RedisScript("""
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + math.ceil(ARGV[2])) .. ' ' .. ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    if (tonumber(string.match(all[i + 1], '^%d+')) or 0) < now then redis.call('HDEL', KEYS[1], all[i]) end
end
""")

_LIST = RedisScript("""
local now, found = tonumber(redis.call('TIME')[1]), {}
for _, kept in ipairs(redis.call('HVALS', KEYS[1])) do
    local till, report = string.match(kept, '^(%d+) (.*)$')
    if till and tonumber(till) >= now then found[#found + 1] = report end
end
return found
""")


# KEYS: the hash. ARGV: pairs of a key's id and a Unix second. Returns the whole hash.
_MERGE_USES = RedisScript("""
for i = 1, #ARGV, 2 do
    if (tonumber(redis.call('HGET', KEYS[1], ARGV[i])) or 0) < tonumber(ARGV[i + 1]) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
return redis.call('HGETALL', KEYS[1])
""")


class RedisInstallation:
    """An `Installation` for replicas that share Redis, a single server or a cluster. `url`: see `RedisClient`."""

    def __init__(self, url: str) -> None:
        self._redis = RedisClient(url, _TIMEOUT_S)

    def active(self) -> dict[str, ActiveArtifact]:
        with self._redis.connected() as client:
            families = sorted(name.decode(errors="replace") for name in cast(set[bytes], client.smembers(_FAMILIES)))
            records = [cast(bytes | None, client.get(_key(family))) for family in families]
        found = [read_active(record.partition(b" ")[2]) for record in records if record is not None]
        return {one.family: one for one in found}

    def activate(self, artifact: ActiveArtifact, expected: ActiveArtifact | None) -> bool:
        try:
            with self._redis.connected() as client:
                return self._activate(client, artifact, expected)
        except StoreUnavailable:
            if self._token(artifact.family) != artifact.token:  # it may have taken effect anyway
                raise
            return True

    def report(self, replica: Replica) -> None:
        with self._redis.connected() as client:
            _REPORT.run(client, [_REPLICAS], [replica.name, replica.valid_s, replica.model_dump_json()])

    def replicas(self) -> list[Replica]:
        with self._redis.connected() as client:
            return read_replicas(cast(list[bytes], _LIST.run(client, [_REPLICAS])))

    def merge_key_uses(self, uses: Mapping[str, int]) -> dict[str, int]:
        pairs = [part for use in uses.items() for part in use]
        with self._redis.connected() as client:
            kept = cast(list[bytes], _MERGE_USES.run(client, [_KEY_USES], pairs))
        return {key.decode(): int(at) for key, at in zip(kept[::2], kept[1::2], strict=True)}

    def withdraw(self, name: str) -> None:
        with self._redis.connected() as client:
            client.hdel(_REPLICAS, name)

    def close(self) -> None:
        self._redis.close()

    def _activate(self, client: Client, artifact: ActiveArtifact, expected: ActiveArtifact | None) -> bool:
        client.sadd(_FAMILIES, artifact.family)
        tokens = ["" if expected is None else expected.token, artifact.token]
        return bool(_ACTIVATE.run(client, [_key(artifact.family)], [*tokens, artifact.model_dump_json()]))

    def _token(self, family: str) -> str | None:
        with self._redis.connected() as client:
            record = cast(bytes | None, client.get(_key(family)))
        return None if record is None else record.partition(b" ")[0].decode()


def _key(family: str) -> str:
    return f"fingerpost:active:{family}"
