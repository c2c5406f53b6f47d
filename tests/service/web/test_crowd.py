"""Who is refused before the app hears of them: nobody in a burst, most of a crowd that lasts."""

import asyncio

import pytest

from service.web.crowd import Crowd

BURST_S = 0.05


class Room:
    """How many more may wait; counts the refusals."""

    def __init__(self, free: int) -> None:
        self.free, self.refused = free, 0

    def note_refusal(self) -> None:
        self.refused += 1


def make_crowd(room: Room) -> Crowd:
    return Crowd(lambda: room.free, room.note_refusal)


def refusals(crowd: Crowd, begin: float, end: float, step: float = 0.005) -> list[bool]:
    """Whether requests are refused that arrive from `begin` to `end`."""
    return [crowd.refuses(begin + step * i) for i in range(round((end - begin) / step))]


def test_nobody_is_refused_as_long_as_there_is_room() -> None:
    room = Room(1)
    assert not any(refusals(make_crowd(room), 0.0, 1.0))
    assert room.refused == 0


def test_a_burst_is_admitted_and_what_follows_it_is_refused_until_there_is_room() -> None:
    room = Room(0)
    crowd = make_crowd(room)
    assert not any(refusals(crowd, 0.0, BURST_S))
    lasting = refusals(crowd, BURST_S + 0.01, 0.5)
    assert all(lasting)
    assert room.refused == len(lasting)
    room.free = 1
    assert not crowd.refuses(0.5)


def test_after_a_pause_it_is_a_burst_again() -> None:
    crowd = make_crowd(Room(0))
    assert refusals(crowd, 0.0, 0.2)[-1]
    assert not any(refusals(crowd, 0.3, 0.3 + BURST_S))


@pytest.mark.anyio
async def test_those_who_arrive_take_room_until_the_app_has_seen_them() -> None:
    room = Room(0)
    crowd, loop = make_crowd(room), asyncio.get_running_loop()
    assert refusals(crowd, 0.0, 0.1)[-1]
    room.free = 2
    for _ in range(2):
        assert not crowd.refuses(0.105)
        crowd.join(loop)
    assert crowd.refuses(0.11)
    await asyncio.sleep(0)  # the loop's next turn
    assert not crowd.refuses(0.115)
