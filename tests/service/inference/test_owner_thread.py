"""One thread at a time uses a model."""

import threading
from collections.abc import Iterator

import pytest

from service.errors import InferenceFailed
from service.inference.owner_thread import OwnerThread
from tests.redis_servers import GUARD_S


@pytest.fixture
def owner() -> Iterator[OwnerThread]:
    owner = OwnerThread("owner", "it has been stopped")
    yield owner
    owner.close()


def test_no_thread_takes_the_place_of_one_at_work(owner: OwnerThread) -> None:
    free, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        free.wait(GUARD_S)

    working = owner.submit(work)
    assert begun.wait(GUARD_S)
    assert not owner.take()
    free.set()
    working.result(GUARD_S)
    assert owner.take()
    owner.give_back()


def test_the_owner_thread_waits_for_the_one_in_its_place(owner: OwnerThread) -> None:
    assert owner.take()
    assert not owner.take()
    waiting = owner.submit(threading.current_thread)
    with pytest.raises(TimeoutError):
        waiting.result(0.05)
    owner.give_back()
    assert waiting.result(GUARD_S) is not threading.current_thread()


def test_after_its_end_nobody_takes_its_place(owner: OwnerThread) -> None:
    owner.close()
    with pytest.raises(InferenceFailed, match="it has been stopped"):
        owner.take()
    with pytest.raises(InferenceFailed, match="it has been stopped"):
        owner.submit(print)
