"""Scripts that Redis runs as one step."""

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from reference_db.stores.redis_client import Client


class RedisScript:
    """A Lua script for a single server or a cluster.

    The script of redis-py loads the text on every master of a cluster, and fails while one of them is down.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # Redis knows scripts by it

    def run(self, client: Client, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Runs the script on the node of the keys, which are all on one node. Returns its answer."""
        parts = (len(keys), *keys, *arguments)
        try:
            return client.evalsha(self._digest, *parts)
        except NoScriptError:  # `eval` also loads it
            return client.eval(self._text, *parts)
