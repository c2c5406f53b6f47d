from pathlib import Path

import pytest

from reference_db import DirectoryStore, StoreUnavailable, open_store
from reference_db.stores.redis import RedisStore


def test_a_path_opens_a_directory_store(tmp_path: Path) -> None:
    for address in (tmp_path / "store", str(tmp_path / "store")):
        assert isinstance(open_store(address), DirectoryStore)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1",
        "rediss://user:word@127.0.0.1:1/3",
        "redis+cluster://127.0.0.1:1",
        "rediss+cluster://user:word@127.0.0.1:1,127.0.0.1:2,[::1]:3",
    ],
)
def test_a_url_opens_a_redis_store_even_if_redis_is_down(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    with pytest.raises(StoreUnavailable) as caught:
        store.cells()
    assert "word" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1", "redis+sentinel://127.0.0.1", "redis://", "redis://a:port", "redis+cluster://a:1,b:port"],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        open_store(url)
