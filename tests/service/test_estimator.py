import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.estimator import grouped


@given(st.lists(st.integers(0, 9), min_size=1, max_size=64))
def test_every_user_is_in_one_run_and_in_the_slot_of_its_frame(slots: list[int]) -> None:
    users = list(enumerate(slots))
    seen = set()
    for rows, of_frames in grouped(users):
        assert rows.shape[0] == len(of_frames) == len(set(of_frames.tolist()))
        for row_of_users, slot in zip(rows, of_frames, strict=True):
            seen |= {(int(row), int(slot)) for row in row_of_users}
    assert seen == set(users)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=64))
def test_less_than_half_of_a_run_is_filling(slots: list[int]) -> None:
    runs = grouped(list(enumerate(slots)))
    assert sum(rows.size for rows, _ in runs) < 2 * len(slots)


def test_users_of_one_tile_are_one_frame() -> None:
    ((rows, slots),) = grouped([(row, 7) for row in range(64)])
    np.testing.assert_array_equal(rows, [np.arange(64)])
    assert slots.tolist() == [7]
