"""A store by its address."""

from pathlib import Path

from reference_db.stores.directory import DirectoryStore
from reference_db.stores.store import Store


def open_store(url_or_path: str | Path) -> Store:
    """A `RedisStore` for what has a scheme, as in `redis://`, else a `DirectoryStore`.

    Raises `ValueError` for a URL that is none of Redis, and `StoreUnavailable` for a directory that cannot be used;
    Redis itself may be away.
    """
    if "://" in str(url_or_path):
        from reference_db.stores.redis import RedisStore  # a sixth of a second that others need not spend

        return RedisStore(str(url_or_path))
    return DirectoryStore(Path(url_or_path))
