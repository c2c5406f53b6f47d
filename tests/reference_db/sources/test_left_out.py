"""Packets that are not used, and the notes on them."""

import numpy as np
import pytest

from reference_db.sources.left_out import describe_cut, describe_left_out, find_signals


@pytest.mark.parametrize(
    ("value", "heard"), [(0, False), (1e-30, True), (np.nan, False), (np.inf, False), (1j * np.inf, False)]
)
def test_a_signal_is_finite_and_not_all_zero(value: complex, heard: bool) -> None:
    csi = np.ones((2, 2, 3), np.complex64)
    if value == 0:
        csi[1] = 0
    else:
        csi[1, 1, 2] = value
    assert find_signals(csi).tolist() == [True, heard]


def test_a_note_counts_what_is_used_and_each_reason() -> None:
    assert describe_left_out("frames", 150, unplaced=100, incomplete=20, silent=0) == (
        "30 of 150 frames are used; 100 have no position, 20 lack a core",
    )
    assert describe_left_out("packets", 4, unplaced=1, incomplete=1, silent=1, hint="walk on") == (
        "1 of 4 packets is used; 1 has no position, 1 lacks a core, 1 has no signal; walk on",
    )
    assert describe_left_out("packets", 4, unplaced=0, silent=0, hint="walk on") == ()


def test_the_note_on_a_cut_counts_whole_packets() -> None:
    assert describe_cut(149) == "the file is cut off after 149 whole packets"
    assert describe_cut(1) == "the file is cut off after 1 whole packet"
