from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_db import CorruptSegment, Fingerprints, Segment
from reference_db.segment import digest_of


def test_a_segment_survives_its_bytes(make_fingerprints: Callable[..., Fingerprints]) -> None:
    fingerprints = make_fingerprints()
    data = Segment.of(fingerprints).to_bytes()
    back = Segment.from_bytes(data, digest_of(data)).fingerprints()
    for name in ("positions", "times", "sigmas"):
        np.testing.assert_array_equal(getattr(back, name), getattr(fingerprints, name))
    error = np.abs(back.csi - fingerprints.csi).max(axis=(1, 2))
    assert (error < 1e-3 * np.abs(fingerprints.csi).max(axis=(1, 2))).all()


def test_the_same_fingerprints_give_the_same_bytes(make_fingerprints: Callable[..., Fingerprints]) -> None:
    assert Segment.of(make_fingerprints()).to_bytes() == Segment.of(make_fingerprints()).to_bytes()


def test_a_segment_read_and_written_again_keeps_its_digest(
    make_fingerprints: Callable[..., Fingerprints],
) -> None:
    data = Segment.of(make_fingerprints()).to_bytes()
    again = Segment.of(Segment.from_bytes(data, digest_of(data)).fingerprints()).to_bytes()
    assert digest_of(again) == digest_of(data)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(make_fingerprints: Callable[..., Fingerprints], place: float, bit: int) -> None:
    data = Segment.of(make_fingerprints(2)).to_bytes()
    damaged = bytearray(data)
    damaged[int(place * len(data))] ^= 1 << bit
    with pytest.raises(CorruptSegment):
        Segment.from_bytes(bytes(damaged), digest_of(data))


@pytest.mark.parametrize("data", [b"", b"not a segment", (2**40).to_bytes(8, "little") + b"{}"])
def test_bytes_that_are_no_segment_are_refused_though_their_digest_is_right(data: bytes) -> None:
    with pytest.raises(CorruptSegment):
        Segment.from_bytes(data, digest_of(data))


def test_other_arrays_than_a_segments_are_refused(make_fingerprints: Callable[..., Fingerprints]) -> None:
    segment = Segment.of(make_fingerprints())
    for wrong in (
        replace(segment, times=segment.times.astype(np.float32)),
        replace(segment, times=segment.times[1:]),
    ):
        data = wrong.to_bytes()
        with pytest.raises(CorruptSegment):
            Segment.from_bytes(data, digest_of(data))


def test_every_part_of_a_fingerprint_is_in_its_id(make_fingerprints: Callable[..., Fingerprints]) -> None:
    fingerprints = make_fingerprints()
    ids = Segment.of(fingerprints).ids
    assert ids.dtype == np.uint64
    assert len(set(ids.tolist())) == len(fingerprints)
    for name, change in (("csi", 2.0), ("positions", 1.01), ("times", 1.01), ("sigmas", 2.0)):
        changed = replace(fingerprints, **{name: getattr(fingerprints, name) * np.float32(change)})
        assert not np.isin(Segment.of(changed).ids, ids).any(), name


def test_an_id_does_not_depend_on_the_rows_around_it(make_fingerprints: Callable[..., Fingerprints]) -> None:
    segment = Segment.of(make_fingerprints())
    reversed_rows = Segment(**{name: array[::-1] for name, array in segment.arrays().items()})
    np.testing.assert_array_equal(reversed_rows.ids, segment.ids[::-1])
