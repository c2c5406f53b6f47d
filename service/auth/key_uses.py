"""When each API key was last used: by this replica, and by any replica that shares the reference database."""

import time
from collections.abc import Mapping
from typing import Protocol

from reference_db.errors import ReferenceDatabaseError, StoreForbidden
from service.auth.key_store import KeyStore
from service.background import BlockingCalls, JobFailed

PERIOD_S = 10.0  # between two exchanges with the other replicas


class UseRecord(Protocol):
    """What the replicas share."""

    def merge_key_uses(self, uses: Mapping[str, int]) -> dict[str, int]:
        """Keeps the later time of each key, in Unix seconds by the key's id, and returns all. Blocking.

        Raises what the store raises.
        """


class KeyUses:
    """For the event loop's thread. Where the store cannot be written to, a replica knows its own uses only."""

    def __init__(self, keys: KeyStore, record: UseRecord) -> None:
        self._keys = keys
        self._record = record
        self._known: dict[str, int] = {}
        self._started = time.time()
        self._exchanging = BlockingCalls("key uses")
        self.shared = False  # whether the last exchange succeeded

    @property
    def since(self) -> float | None:
        """The time since which uses are known, in Unix seconds; None: since the keys were made."""
        return None if self.shared else self._started

    def last(self, key_id: str) -> int | None:
        """Unix seconds; None for a key of which no use is known."""
        times = [one for one in (self._known.get(key_id), self._keys.used.get(key_id)) if one is not None]
        return max(times, default=None)

    async def exchange(self) -> None:
        """Tells the other replicas which keys were used here, and learns which were used there."""
        self.shared = False
        try:
            self._known = await self._exchanging.run(self._record.merge_key_uses, dict(self._keys.used))
        except StoreForbidden:  # a choice of the operator: see `ArtifactFollower`
            return
        except ReferenceDatabaseError as error:
            raise JobFailed(f"the uses of keys are not shared: {error}") from error
        self.shared = True
