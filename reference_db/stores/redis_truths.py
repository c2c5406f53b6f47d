"""The counts of a cell's truths in Redis. One script adds truths, so that no replica's counts get lost."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from reference_db.errors import CorruptTruths
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_layout import checked_type, is_cell_id, key
from reference_db.stores.redis_script import RedisScript
from reference_db.truths import MOST_GROUPS, MOST_REMEMBERED, ScoredTruth, TruthCounts, TruthGroup

# KEYS: pointer, truths, the names of those counted. ARGV: groups to keep, names to keep, then for each truth its name,
# its group, the number of its amounts, and the names and values of these. Answers 1 for each truth that counts, 0 for
# one that was counted before, and nothing without the cell. Redis refuses the first write, ZADD, when its memory is
# full. The first amount of each group is `truths`.
_ADD = RedisScript("""
local counted = {}
if redis.call('EXISTS', KEYS[1]) == 0 then return counted end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local i = 3
while i < #ARGV do
    local name, group, amounts = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    local is_new = redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', now + #counted), name)
    if is_new == 1 then
        for j = i + 3, i + 1 + 2 * amounts, 2 do
            redis.call('HINCRBYFLOAT', KEYS[2], group .. ' ' .. ARGV[j], ARGV[j + 1])
        end
    end
    counted[#counted + 1] = is_new
    i = i + 3 + 2 * amounts
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -ARGV[2] - 1)
local most = tonumber(ARGV[1])
if redis.call('HLEN', KEYS[2]) > most then
    local fields, groups, whole = redis.call('HKEYS', KEYS[2]), {}, ' truths'
    for _, one in ipairs(fields) do
        if one:sub(-#whole) == whole then groups[#groups + 1] = one:sub(1, -#whole - 1) end
    end
    table.sort(groups)
    local gone = {}
    for j = 1, #groups - most do gone[groups[j]] = true end
    for _, one in ipairs(fields) do
        if gone[one:match('^(.*) [^ ]*$')] then redis.call('HDEL', KEYS[2], one) end
    end
end
return counted
""")


def keys_of_truths(cell_id: str) -> list[str]:
    return [key(cell_id, "truths"), key(cell_id, "truths:counted")]


def add_truths(redis: RedisClient, cell_id: str, truths: Sequence[ScoredTruth]) -> list[bool]:
    """Whether each truth was counted; none where there is no such cell. Raises `CorruptTruths`."""
    if not (is_cell_id(cell_id) and truths):
        return [False] * len(truths)
    arguments: list[Any] = [MOST_GROUPS, MOST_REMEMBERED]
    for one in truths:
        amounts = TruthCounts.of(one).amounts()
        arguments += [one.name, str(one.group), len(amounts)]
        for name, amount in amounts.items():
            arguments += [name, amount]
    with redis.connected() as client, checked_type(cell_id):
        counted = cast(list[int], _ADD.run(client, [key(cell_id, "current"), *keys_of_truths(cell_id)], arguments))
    return [bool(one) for one in counted] or [False] * len(truths)


def read_truths(redis: RedisClient, cell_id: str) -> dict[TruthGroup, TruthCounts]:
    """Raises `CorruptTruths`."""
    if not is_cell_id(cell_id):
        return {}
    with redis.connected() as client, checked_type(cell_id):
        fields = cast(dict[bytes, bytes], client.hgetall(keys_of_truths(cell_id)[0]))
    amounts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    try:
        for field, amount in fields.items():
            group, _, name = field.decode().rpartition(" ")
            amounts[group][name] = float(amount)
        return {TruthGroup.from_name(group): TruthCounts.from_amounts(one) for group, one in amounts.items()}
    except ValueError as error:
        raise CorruptTruths(f"the truths of cell {cell_id!r} cannot be read") from error
