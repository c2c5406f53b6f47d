"""Opens a store by its address."""

from pathlib import Path

from reference_db.stores.directory import DirectoryStore
from reference_db.stores.store import Store


def open_store(url_or_path: str | Path) -> Store:
    """Opens a `RedisStore` for a URL such as `redis://...`, and a `DirectoryStore` for a path.

    Raises `ValueError` for a URL that is not a Redis URL, and `StoreUnavailable` for a directory that cannot be used.
    Does not connect to Redis yet.
    """
    if "://" in str(url_or_path):
        from reference_db.stores.redis import RedisStore  # importing it takes a sixth of a second

        return RedisStore(str(url_or_path))
    return DirectoryStore(Path(url_or_path))
