import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from service import errors
from service.examining.channel import ArrayFile, Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    pair = [Channel(end) for end in socket.socketpair()]
    yield pair[0], pair[1]
    for end in pair:
        end.close()


def test_messages_arrive_in_order_with_their_arrays(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    arrays = {
        "halves": np.arange(7, dtype=np.float16),
        "none": np.zeros((0, 3), np.float32),
        "number": np.array(2.5),
        "rows": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2],
    }
    file = ArrayFile.of(arrays)
    here.send("first", file)
    file.close()
    here.send(("second", 2))
    message, received = there.receive()
    assert message == "first"
    assert received is not None
    mapped = received.map()
    assert there.receive() == (("second", 2), None)
    assert mapped.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (mapped[name].dtype, mapped[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(mapped[name], array)


def test_a_message_longer_than_the_socket_holds_arrives_whole(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    long = bytes(range(256)) * 40_000
    sending = threading.Thread(target=here.send, args=(long,))
    sending.start()
    assert there.receive() == (long, None)
    sending.join()


def test_the_end_of_the_other_process_is_told(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    here.send("last")
    here.close()
    assert there.receive() == ("last", None)
    with pytest.raises(EOFError):
        there.receive()


def test_errors_of_the_service_arrive_as_they_were_raised(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    sent = [
        errors.CellTooSmall("/cellId", "the cell has 3 fingerprints"),
        errors.OutOfMemory("not enough memory"),
        errors.RateExceeded("too fast", 7),
        errors.VersionRefused("far worse").with_advice("force publishes it"),
    ]
    here.send(sent)
    received, _ = there.receive()
    for one, other in zip(received, sent, strict=True):
        assert type(one) is type(other)
        assert (str(one), one.detail, one.reason, one.headers) == (
            str(other),
            other.detail,
            other.reason,
            other.headers,
        )
