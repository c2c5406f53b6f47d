import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.query_runs import group_by_slot

SLOTS = st.lists(st.integers(0, 40), min_size=1, max_size=64)


@given(SLOTS, st.booleans())
def test_every_user_is_in_one_run_and_in_the_slot_of_its_frame(slots: list[int], few_shapes: bool) -> None:
    users = list(enumerate(slots))
    seen = set()
    for rows, of_frames in group_by_slot(users, few_shapes):
        assert rows.shape[0] == len(of_frames)
        for row_of_users, slot in zip(rows, of_frames, strict=True):
            seen |= {(int(row), int(slot)) for row in row_of_users}
    assert seen == set(users)


@given(SLOTS)
def test_less_than_half_of_a_run_is_filling(slots: list[int]) -> None:
    runs = group_by_slot(list(enumerate(slots)), few_shapes=False)
    assert sum(rows.size for rows, _ in runs) < 2 * len(slots)


@given(SLOTS)
def test_few_shapes_are_powers_of_two(slots: list[int]) -> None:
    for rows, of_frames in group_by_slot(list(enumerate(slots)), few_shapes=True):
        assert rows.shape[0] == len(of_frames)
        assert all(side.bit_count() == 1 for side in rows.shape)


@pytest.mark.parametrize("few_shapes", [False, True])
def test_users_of_one_tile_share_one_frame(few_shapes: bool) -> None:
    ((rows, slots),) = group_by_slot([(row, 7) for row in range(64)], few_shapes)
    np.testing.assert_array_equal(rows, [np.arange(64)])
    assert slots.tolist() == [7]


def test_a_run_has_no_more_frames_than_fit_into_the_cache() -> None:
    runs = group_by_slot([(row, row) for row in range(64)], few_shapes=False)
    assert [len(slots) for _, slots in runs] == [16] * 4
